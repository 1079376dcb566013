package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

func TestDocumentAndRouterHaveTheSameRoutes(t *testing.T) {
	t.Parallel()
	var routed []string
	must(t, chi.Walk(newServer(Options{}).routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, method+" "+route)
		return nil
	}))
	var documented []string
	for path, operations := range document()["paths"].(node) {
		for method := range operations.(node) {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(documented)
	if diff := cmp.Diff(routed, documented); diff != "" {
		t.Errorf("router and openapi.yaml differ (-router +document):\n%s", diff)
	}
}

// Each response that is a problem has one example, under its code, that is
// exactly what ferry writes.
func TestEveryStatusAndCodeIsDocumented(t *testing.T) {
	t.Parallel()
	responses := document()["components"].(node)["responses"].(node)
	documented := map[fault.Code]int{}
	for name, response := range responses {
		examples, isProblem := at(response, "content", "application/problem+json", "examples")
		if !isProblem {
			continue
		}
		for code := range examples {
			value, _ := at(examples, code, "value")
			checkProblemExample(t, name, fault.Code(code), value)
			documented[fault.Code(code)] = int(value["status"].(float64))
		}
	}
	if diff := cmp.Diff(statuses, documented); diff != "" {
		t.Errorf("table and openapi.yaml differ (-table +document):\n%s", diff)
	}

	code, _ := at(document(), "components", "schemas", "Problem", "properties", "code")
	var listed []fault.Code
	for _, c := range list(code["enum"]) {
		listed = append(listed, fault.Code(c.(string)))
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(statuses)), listed); diff != "" {
		t.Errorf("table and the list of codes differ (-table +document):\n%s", diff)
	}
}

func checkProblemExample(t *testing.T, name string, code fault.Code, value node) {
	t.Helper()
	f := fault.New(code, "%s", value["detail"])
	f.Members = map[string]any{}
	for _, member := range []string{"limit_bytes", "limit_operations"} {
		if limit, ok := value[member]; ok {
			f.Members[member] = limit
		}
	}
	w := httptest.NewRecorder()
	writeProblem(w, f)
	if diff := cmp.Diff(decoded(t, w.Body.String()), map[string]any(value)); diff != "" {
		t.Errorf("example of %s (-ferry +document):\n%s", name, diff)
	}
}

func TestExamplesConformToTheirSchemas(t *testing.T) {
	t.Parallel()
	checked := 0
	var walk func(where string, v any)
	walk = func(where string, v any) {
		n, ok := v.(node)
		if !ok {
			return
		}
		examples, _ := n["examples"].(node)
		for name, example := range examples {
			for _, wrong := range conform(n["schema"], example.(node)["value"], "value") {
				t.Errorf("%s, example %s: %s", where, name, wrong)
			}
			checked++
		}
		for name, child := range n {
			walk(where+"/"+name, child)
		}
	}
	walk("", document())
	if checked < 15 {
		t.Errorf("only %d examples were found", checked)
	}
}

func TestReferencesLeadSomewhere(t *testing.T) {
	t.Parallel()
	components := document()["components"].(node)
	unused := map[string]bool{}
	for kind, named := range components {
		for name := range named.(node) {
			unused["#/components/"+kind+"/"+name] = true
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case node:
			if ref, ok := v["$ref"].(string); ok {
				delete(unused, ref)
				if _, ok := at(v); !ok {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(document())
	// These are described for all paths, and schemes are referred to by name.
	for _, name := range []string{"responses/NotFound", "responses/MethodNotAllowed", "securitySchemes/session"} {
		delete(unused, "#/components/"+name)
	}
	if len(unused) > 0 {
		t.Errorf("nothing refers to %v", slices.Sorted(maps.Keys(unused)))
	}
}

func TestUploadExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	content, _ := at(document(), "paths", "/upload", "post", "requestBody", "content", "application/json")
	for name, example := range content["examples"].(node) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := json.Marshal(example.(node)["value"])
			must(t, err)
			a := setup(t, func(a *api) { a.options.Uploaders = exampleUser(a) })
			if got := a.upload(t, string(body)); got.status != http.StatusOK {
				t.Errorf("answered %d: %s", got.status, got.body)
			}
		})
	}
}

func TestDocumentIsServed(t *testing.T) {
	t.Parallel()
	got := setup(t).do(t, http.MethodGet, "/openapi.yaml", nil)
	if got.status != http.StatusOK || got.body != string(openAPI) || got.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("answered %d, %s, %d bytes", got.status, got.header.Get("Content-Type"), len(got.body))
	}
}

// A document that is no mapping any more, or that leaves the part of YAML that
// the tests read, must not pass by being read wrongly.
func TestParserRefusesOtherYAML(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "a: b\na: c", "- a: b", "a: 'b'\n  c", "a: &b", "a: > \n  b", "a: [b]", "a: b: c", "a: {b: c}"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Errorf("%q was read", text)
				}
			}()
			parseMapping(strings.Split(text, "\n"))
		})
	}
}
