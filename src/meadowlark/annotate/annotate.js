// Keys, a draft that outlives the browser, and saving that is tried again until the server answers.
"use strict";
const form = document.getElementById("judging");
const saying = document.getElementById("saying");
const kept = form && "meadowlark-" + form.dataset.draft;
const storage = (() => { try { return window.localStorage; } catch { return null; } })();
const hidden = new Set(["csrf", "form", "item"]);

function fields() {
  return [...new FormData(form)].filter(([name]) => !hidden.has(name));
}

if (form) {
  const draft = storage && storage.getItem(kept);
  if (draft && !document.querySelector(".fault")) {
    for (const [name, value] of JSON.parse(draft)) {
      const control = form.elements[name];
      if (control) control.value = value;
    }
  }
  form.addEventListener("input", () => {
    try { storage.setItem(kept, JSON.stringify(fields())); } catch { /* full or forbidden */ }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(new URLSearchParams(new FormData(form)));
  });
}

async function save(body) {
  const button = document.getElementById("save");
  button.disabled = true;
  for (;;) {
    try {
      // The form's key goes with every try, so that the server counts it once.
      const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin" });
      if (answer.ok) {
        if (storage) storage.removeItem(kept);
        location.assign(answer.url);
        return;
      }
      if (answer.status < 500) {
        button.disabled = false;
        form.submit(); // the server's page says what is wrong
        return;
      }
    } catch { /* no answer: tried again below */ }
    saying.textContent = "Not saved yet: the server does not answer. Trying again …";
    await new Promise((resume) => setTimeout(resume, 2000));
  }
}

function choose(digit) {
  const groups = [...form.querySelectorAll("fieldset.choice")];
  const at = document.activeElement && document.activeElement.closest("fieldset.choice");
  const group = at || groups.find((one) => !one.querySelector(":checked")) || groups.at(-1);
  const control = group.querySelectorAll("input[type=radio]")[digit - 1];
  if (!control) return;
  control.checked = true;
  control.dispatchEvent(new Event("input", { bubbles: true }));
  const next = groups[groups.indexOf(group) + 1];
  const open = next && (next.querySelector(":checked") || next.querySelector("input"));
  const edited = control.id === "decide-edit" && document.getElementById("edit-output");
  const reason = control.id === "decide-reject" && document.getElementById("reason");
  (edited || reason || open || document.getElementById("save")).focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (event.key === "Escape" && target.blur) target.blur();
  if (target.matches("textarea, select")) return;
  if (event.key === "u") {
    const undo = document.getElementById("undo");
    if (undo) undo.click();
  } else if (!form) {
    return;
  } else if (/^[1-4]$/.test(event.key)) {
    event.preventDefault();
    choose(Number(event.key));
  } else if (event.key === "n") {
    event.preventDefault();
    document.getElementById("note").focus();
  } else if (event.key === "Enter" && !target.matches("button, a")) {
    event.preventDefault();
    form.requestSubmit();
  }
});
