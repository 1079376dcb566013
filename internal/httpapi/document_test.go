package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// node is a value of the document: a node for a mapping, or what encoding/json
// makes of it.
type node = map[string]any

// document returns openapi.yaml, parsed once.
var document = sync.OnceValue(func() node {
	lines := strings.Split(string(openAPI), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") })
	return parseMapping(lines)
})

// parseMapping parses the part of YAML that openapi.yaml keeps to: mappings,
// literal text, plain scalars in one line, and JSON for everything else. It
// panics on other YAML.
func parseMapping(lines []string) node {
	parsed := node{}
	for len(lines) > 0 {
		line := lines[0]
		if strings.TrimSpace(line) == "" {
			lines = lines[1:]
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		key = strings.Trim(key, `"`)
		if _, twice := parsed[key]; !ok || twice || strings.ContainsAny(key[:1], "-?'[{") {
			panic(fmt.Sprintf("openapi.yaml: %q is no mapping entry, or a second one", line))
		}
		end := 1
		for end < len(lines) && (strings.TrimSpace(lines[end]) == "" || indent(lines[end]) > indent(line)) {
			end++
		}
		parsed[key] = parseValue(strings.TrimSpace(value), lines[1:end])
		lines = lines[end:]
	}
	return parsed
}

// parseValue parses what stands behind a key and, indented, below it.
func parseValue(value string, below []string) any {
	text := strings.TrimSpace(strings.Join(below, "\n"))
	switch {
	case value == "|":
		return text
	case value == "" && !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "["):
		return parseMapping(below)
	case value == "":
		value = text
	case text != "":
		panic(fmt.Sprintf("openapi.yaml: %q goes on below", value))
	}
	var parsed any
	if err := json.Unmarshal([]byte(value), &parsed); err != nil {
		if strings.ContainsAny(value[:1], "{[\"-&*!>%@`") || strings.Contains(value, ": ") {
			panic(fmt.Sprintf("openapi.yaml: %q: %v", value, err))
		}
		return value // a plain scalar
	}
	return parsed
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// at follows a path of names, and references on the way.
func at(from any, path ...string) (node, bool) {
	n, ok := from.(node)
	if ref, isRef := n["$ref"].(string); isRef {
		n, ok = at(document(), strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	if !ok || len(path) == 0 {
		return n, ok
	}
	return at(n[path[0]], path[1:]...)
}

// conform returns what is wrong with a value under a schema, in the words of
// JSON Schema that openapi.yaml uses. A property that the schema does not name
// is wrong where it names any: the document says everything that ferry answers.
func conform(schema, value any, where string) []string {
	s, ok := at(schema)
	if !ok {
		return []string{where + ": no schema"}
	}
	var wrong []string
	if types, ok := s["type"]; ok && !slices.Contains(list(types), any(typeOf(value))) {
		wrong = append(wrong, fmt.Sprintf("%s: %v is no %v", where, value, types))
	}
	if constant, ok := s["const"]; ok && constant != value {
		wrong = append(wrong, fmt.Sprintf("%s: %v is not %v", where, value, constant))
	}
	if enum, ok := s["enum"]; ok && !slices.Contains(list(enum), value) {
		wrong = append(wrong, fmt.Sprintf("%s: %v is not among %v", where, value, enum))
	}
	if shapes, ok := s["anyOf"]; ok && !slices.ContainsFunc(list(shapes), func(shape any) bool {
		return len(conform(shape, value, where)) == 0
	}) {
		wrong = append(wrong, fmt.Sprintf("%s: %v is none of %v", where, value, shapes))
	}
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			if items, ok := s["items"]; ok {
				wrong = append(wrong, conform(items, item, fmt.Sprintf("%s[%d]", where, i))...)
			}
		}
	case node:
		wrong = append(wrong, conformMembers(s, v, where)...)
	}
	return wrong
}

func conformMembers(schema, value node, where string) []string {
	var wrong []string
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %v is missing", where, name))
		}
	}
	properties, ok := schema["properties"].(node)
	for name, member := range value {
		if property, known := properties[name]; known {
			wrong = append(wrong, conform(property, member, where+"."+name)...)
		} else if ok {
			wrong = append(wrong, where+": nothing says what "+name+" is")
		}
	}
	return wrong
}

// list is a list, or what stands for a list of one.
func list(v any) []any {
	if several, ok := v.([]any); ok {
		return several
	}
	return []any{v}
}

func typeOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// documentedResponse finds what the document says of a status. A path or method
// that does not exist is described once, for all of them.
func documentedResponse(method, route string, status int) (node, bool) {
	if method == http.MethodHead {
		method = http.MethodGet // the document says that they are alike
	}
	if found, ok := at(document(), "paths", route, strings.ToLower(method), "responses", strconv.Itoa(status)); ok {
		return found, true
	}
	switch status {
	case http.StatusNotFound:
		return at(document(), "components", "responses", "NotFound")
	case http.StatusMethodNotAllowed:
		return at(document(), "components", "responses", "MethodNotAllowed")
	}
	return nil, false
}

// checkDocumented holds an answer against the document: status, headers, media
// type, body, and, of a problem, its code.
func checkDocumented(t *testing.T, method, route string, got answer) {
	t.Helper()
	response, ok := documentedResponse(method, route, got.status)
	if !ok {
		t.Fatalf("openapi.yaml does not say that %s %s may answer %d: %s", method, route, got.status, got.body)
	}
	headers, _ := response["headers"].(node)
	for name := range headers {
		h, _ := at(headers[name])
		if h["required"] == true && got.header.Get(name) == "" {
			t.Errorf("%s %s answers %d without %s", method, route, got.status, name)
		}
	}
	media := got.header.Get("Content-Type")
	if _, has := response["content"]; !has && got.body == "" && media == "" {
		return
	}
	content, ok := at(response, "content", media)
	if !ok {
		t.Fatalf("openapi.yaml does not say that %s %s answers %d with %q", method, route, got.status, media)
	}
	if method == http.MethodHead || !strings.HasSuffix(media, "json") {
		return
	}
	body := decoded(t, got.body)
	for _, wrong := range conform(content["schema"], body, "body") {
		t.Errorf("%s %s %d: %s", method, route, got.status, wrong)
	}
	if media == "application/problem+json" {
		checkProblem(t, got, content)
	}
}

// checkProblem holds what is true of every problem.
func checkProblem(t *testing.T, got answer, content node) {
	t.Helper()
	body := decoded(t, got.body)
	if body["detail"] == "" || body["message"] != body["detail"] {
		t.Errorf("detail %q and message %q, want the same text", body["detail"], body["message"])
	}
	if body["status"] != float64(got.status) || body["title"] != http.StatusText(got.status) {
		t.Errorf("status %v and title %v in a %d", body["status"], body["title"], got.status)
	}
	if _, ok := at(content, "examples", body["code"].(string)); !ok {
		t.Errorf("openapi.yaml has no example of code %v for %d", body["code"], got.status)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a problem may be cached: %q", got.header.Get("Cache-Control"))
	}
}
