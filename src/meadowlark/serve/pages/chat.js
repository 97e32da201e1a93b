"use strict";
// The chat page. Whatever a person or a model wrote is put in by textContent, never as markup.
const $ = (id) => document.getElementById(id);
const config = JSON.parse($("config").textContent);
const REGENERATED_AT = 0.7; // a greedy answer would only come again
let exchanges = []; // {instruction, input, answer, node}
let asking = null; // the AbortController of what is being answered
let comparison = null; // {id, nodes} until it is voted on
let key = sessionStorage.getItem("meadowlark-key") || "";

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bubble(kind, who, text) {
  const made = element("article", "turn " + kind);
  made.append(element("p", "who", who), element("div", "said", text));
  return made;
}

function say(text, fault) {
  $("status").textContent = text;
  $("status").classList.toggle("fault", Boolean(fault));
}

async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = "Bearer " + key;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (response.ok) return response;
  let message = "The server answered " + response.status + ".";
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status will do */ }
  if (response.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  throw new Error(message);
}

// Read server-sent events into a node; gives the text, and what broke it off, if anything did.
async function stream(path, body, node, signal) {
  let text = "";
  try {
    const response = await post(path, body, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let whole = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const one of events) {
        const data = JSON.parse(one.replace(/^data: /, ""));
        if (data.error) throw new Error(data.error);
        if (data.end) whole = true;
        if (data.text) {
          text += data.text;
          node.textContent = text;
        }
      }
    }
    if (!whole) throw new Error("The connection to the server broke off.");
    if (!text.trim()) node.textContent = "(no answer: the model ended at once)";
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!stopped && !text.trim()) throw error;
    node.textContent = text.trimEnd() + (stopped ? " (stopped)" : " (broken off)");
    if (!stopped) return { text, broken: error.message };
  }
  return { text, broken: "" };
}

function busy(is) {
  $("send").disabled = is || comparison !== null;
  $("stop").disabled = !is;
  $("again").disabled = is || config.blind || exchanges.length === 0;
  $("reset").disabled = is;
}

function settings() {
  return {
    system: $("system").value,
    temperature: Number($("temperature").value),
    max_tokens: Number($("max_tokens").value),
  };
}

function showQuestion(instruction, input) {
  const made = bubble("question", "You", instruction);
  if (input) made.append(element("div", "said given", input));
  $("log").append(made);
  made.scrollIntoView({ block: "nearest" });
  return made;
}

async function answer(exchange, how) {
  const model = $("model").value;
  const before = exchange.node;
  const made = bubble("answer", model, "");
  if (exchange.node) exchange.node.replaceWith(made);
  else $("log").append(made);
  exchange.node = made;
  const history = exchanges.slice(0, exchanges.indexOf(exchange))
    .map(({ instruction, input, answer }) => ({ instruction, input, answer }));
  const { instruction, input } = exchange;
  let found;
  try {
    found = await stream("/web/answer",
      { ...settings(), ...how, model, history, instruction, input },
      made.querySelector(".said"), asking.signal);
  } catch (error) {
    if (before) made.replaceWith(before); // the answer that was to be replaced is there still
    exchange.node = before || made;
    throw error;
  }
  exchange.answer = found.text;
  made.scrollIntoView({ block: "nearest" });
  return found.broken;
}

async function compare(instruction, input) {
  const body = { ...settings(), instruction, input, seed: Math.floor(Math.random() * 2 ** 31) };
  const { id } = await (await post("/web/compare", body, asking.signal)).json();
  const pair = element("div", "pair");
  const nodes = ["Left", "Right"].map((side) => bubble("answer", side, ""));
  pair.append(...nodes);
  $("log").append(pair);
  const answers = await Promise.all(["left", "right"].map((side, i) =>
    stream("/web/compare/" + id + "/" + side, {}, nodes[i].querySelector(".said"), asking.signal)));
  comparison = { id, nodes };
  $("vote").hidden = false;
  $("vote-title").focus();
  return answers.map((one) => one.broken).filter(Boolean).join(" ");
}

async function during(work) {
  asking = new AbortController();
  busy(true);
  say("The model answers…");
  try {
    const broken = await work();
    if (broken) say(broken + " What came is kept.", true);
    else say(asking.signal.aborted ? "Stopped." : comparison ? "Compare, then vote." : "Done.");
    return true;
  } catch (error) {
    asking.abort(); // the other side of a comparison, too
    say(error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
    return false;
  } finally {
    asking = null;
    busy(false);
  }
}

async function send() {
  const instruction = $("instruction").value.trim();
  const input = $("input").value.trim();
  if (asking || comparison || !instruction) return;
  const question = showQuestion(instruction, input);
  $("instruction").value = "";
  $("input").value = "";
  const exchange = { instruction, input, answer: "", node: null };
  const done = await during(async () => {
    if (config.blind) return compare(instruction, input);
    exchanges.push(exchange);
    return answer(exchange);
  });
  if (!done || (!config.blind && !exchange.answer.trim())) {
    exchanges = exchanges.filter((one) => one !== exchange); // what was not answered is no history
    busy(false);
  }
  if (!done) {
    question.remove();
    if (exchange.node) exchange.node.remove();
    $("instruction").value = instruction;
    $("input").value = input;
  }
  if (!comparison) $("instruction").focus();
}

async function again() {
  const last = exchanges[exchanges.length - 1];
  if (asking || !last) return;
  const temperature = Number($("temperature").value) || REGENERATED_AT;
  const seed = Math.floor(Math.random() * 2 ** 31);
  await during(() => answer(last, { temperature, seed }));
}

async function vote(winner) {
  if (!comparison) return;
  const voted = comparison;
  const buttons = [...document.querySelectorAll("[data-winner]")];
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const body = { winner, note: $("note").value };
    const said = await (await post("/web/compare/" + voted.id + "/vote", body)).json();
    ["left", "right"].forEach((side, i) => {
      voted.nodes[i].querySelector(".who").textContent =
        (i ? "Right: " : "Left: ") + said[side] + (winner === side ? " (your choice)" : "");
    });
    comparison = null;
    $("vote").hidden = true;
    $("note").value = "";
    say("Vote kept. Votes in all: " + said.votes + ".");
    busy(false);
    $("instruction").focus();
  } catch (error) {
    say("The vote was not kept: " + error.message, true);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

function reset() {
  if (asking) return;
  exchanges = [];
  comparison = null;
  $("vote").hidden = true;
  $("log").replaceChildren();
  say("A new conversation.");
  busy(false);
  $("instruction").focus();
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("stop").addEventListener("click", () => asking && asking.abort());
$("again").addEventListener("click", again);
$("reset").addEventListener("click", reset);
$("system").addEventListener("change", reset);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("meadowlark-key", key);
  $("key").value = "";
  $("key-form").hidden = true;
  say("Key taken. Send again.");
});
document.querySelectorAll("[data-winner]").forEach((button) =>
  button.addEventListener("click", () => vote(button.dataset.winner)));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && asking) asking.abort();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  else if (comparison && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)
    && "1234".includes(event.key))
    vote(["left", "right", "tie", "both_bad"][Number(event.key) - 1]);
});

for (const name of config.models) $("model").append(new Option(name, name));
$("model-field").hidden = config.models.length < 2;
$("again").hidden = config.blind;
$("system").value = config.system;
$("temperature").value = config.temperature;
$("max_tokens").value = config.max_tokens;
$("more").open = false;
busy(false);
$("instruction").focus();
