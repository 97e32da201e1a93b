// Renders Go templates as Ollama does (its Execute: system texts joined, messages in order, a map
// for data, missing keys as zero values), so that a test can compare them with the Python form.
// JSON comes in, {"Template": ..., "Cases": [{"System": ..., "Messages": [...]}]}; texts go out.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }

func main() {
	var given struct {
		Template string
		Cases    []struct {
			System   string
			Messages []*message
		}
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	texts := []string{}
	for _, one := range given.Cases {
		var text bytes.Buffer
		data := map[string]any{"System": one.System, "Messages": one.Messages, "Response": ""}
		if err := parsed.Execute(&text, data); err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		panic(err)
	}
}
