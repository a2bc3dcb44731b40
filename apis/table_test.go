package apis_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	yaml "sigs.k8s.io/yaml/goyaml.v3"

	"github.com/proa-dev/proa/apis"
	"github.com/proa-dev/proa/apis/api"
)

// judgePath is a program of test/conformance/judge, which fills in what is expected.
var judgePath = flag.String("judge", "", "fill in what the tables expect by this `program`")

// table is all that is said of one kind: an object and what is stored of it, then cases that differ from it.
type table struct {
	Object any   `json:"object"`
	Result       // of creating it
	Cases  []row `json:"cases"`
}

// row creates the table's object with other fields, or updates it: from what it is with those of old.
type row struct {
	Name   string         `json:"name"` // only where the edit does not say it
	Create map[string]any `json:"create"`
	Old    map[string]any `json:"old"`
	Update map[string]any `json:"update"`
	Sub    string         `json:"sub"`
	Apart  string         `json:"apart"` // why it is not as Kubernetes does it
	Result
}

// Result is what is expected: errors, or what is stored beyond what was sent, and the warnings. What is
// stored of the table's object is not repeated in its cases.
type Result struct {
	Errors   []string       `json:"errors"`
	Warnings []string       `json:"warnings"`
	Stored   map[string]any `json:"stored"`
}

// Each kind does with each object of its table what Kubernetes does.
func TestTables(t *testing.T) {
	upstream := judge(nil)
	if *judgePath != "" {
		ask, end, err := program(*judgePath)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		}()
		upstream = ask
	}
	known := map[string]bool{}
	for _, k := range apis.Kinds() {
		if k.Computed != nil { // nobody sends one
			continue
		}
		path := tablePath(k)
		known[path] = true
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("every kind needs a table: %v", err)
			}
			if upstream != nil {
				if text, err = filledIn(text, upstream); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			checkTable(t, k, text)
		})
	}
	files, err := filepath.Glob("*/testdata/validation/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f] {
			t.Errorf("%s is of no kind", f)
		}
	}
}

// tablePath is the file of a kind; an older version has its own.
func tablePath(k *api.Kind) string {
	group, _, _ := strings.Cut(k.Group, ".")
	switch group {
	case "":
		group = "core"
	case "flowcontrol", "rbac":
	}
	name := k.Resource.Resource
	if k.Stored != nil && k.Stored.Group == k.Group {
		name += "." + k.Version
	}
	return filepath.Join(group, "testdata", "validation", name+".yaml")
}

func checkTable(t *testing.T, k *api.Kind, text []byte) {
	want, err := parsed(text)
	if err != nil {
		t.Fatal(err)
	}
	got := rulesOf(k)
	var base Result
	for i, r := range want.rows() {
		result, err := r.play(want.Object, got)
		if err != nil {
			t.Errorf("%s: %v", r, err)
			continue
		}
		if i == 0 {
			base = result
		} else {
			result.Stored = beyond(result.Stored, base.Stored)
		}
		if r.Apart == "" {
			differ(t, r, result)
		}
	}
}

func differ(t *testing.T, r row, got Result) {
	t.Helper()
	for _, c := range []struct {
		what      string
		got, want []string
	}{{"errors", got.Errors, r.Errors}, {"warnings", got.Warnings, r.Warnings}, {"stored", lines(got.Stored), lines(r.Stored)}} {
		if strings.Join(c.got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %s\n  got  %s\n  want %s", r, c.what, strings.Join(c.got, "\n       "), strings.Join(c.want, "\n       "))
			return
		}
	}
}

func lines(m map[string]any) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		text, err := json.Marshal(m[k])
		out = append(out, fmt.Sprintf("%s: %s %v", k, text, errText(err)))
	}
	return out
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// rows are all cases, before them the object itself.
func (t table) rows() []row {
	return append([]row{{Name: "the object", Result: t.Result}}, t.Cases...)
}

func (r row) String() string {
	if r.Name != "" {
		return r.Name
	}
	text := strings.Join(append(lines(r.Create), lines(r.Update)...), ", ")
	if r.Sub != "" {
		text += " of " + r.Sub
	}
	if r.Old != nil {
		text += " after " + strings.Join(lines(r.Old), ", ")
	}
	return text
}

// Metadata that the server makes, the same in all cases.
var serverMeta = map[string]any{
	"metadata.uid": "2b1f5c9e-0000-4000-8000-000000000001", "metadata.creationTimestamp": "2026-01-02T03:04:05Z",
}

// play has a judge answer one row.
func (r row) play(object any, ask judge) (Result, error) {
	var err error
	if !isReview(object) {
		if object, err = edited(object, serverMeta); err != nil {
			return Result{}, err
		}
	}
	if r.Update == nil {
		sent, err := edited(object, r.Create)
		if err != nil {
			return Result{}, err
		}
		return result(ask, request{Object: sent}, sent)
	}
	if object, err = edited(object, map[string]any{"metadata.resourceVersion": "7", "metadata.generation": float64(3)}); err != nil {
		return Result{}, err
	}
	if object, err = edited(object, r.Old); err != nil {
		return Result{}, err
	}
	old, err := ask(request{Object: object, DefaultsOnly: true})
	if err != nil {
		return Result{}, err
	}
	sent, err := edited(old.Object, r.Update)
	if err != nil {
		return Result{}, err
	}
	return result(ask, request{Object: sent, Old: old.Object, Sub: r.Sub}, sent)
}

// isReview says that an object is a question, which the server gives no metadata.
func isReview(object any) bool {
	fields, _ := object.(map[string]any)
	return strings.HasSuffix(fmt.Sprint(fields["kind"]), "Review")
}

func result(ask judge, r request, sent any) (Result, error) {
	a, err := ask(r)
	if err != nil {
		return Result{}, err
	}
	if len(a.Errors) > 0 {
		for i, e := range a.Errors {
			e, _, _ = strings.Cut(e, "\n") // what follows is a diff of such structs
			a.Errors[i] = structs.ReplaceAllString(e, "$1 value: {...}")
		}
		return Result{Errors: a.Errors}, nil
	}
	stored := map[string]any{}
	if a.Object != nil {
		stored = changes(sent, a.Object)
	}
	for path, v := range stored {
		if strings.HasSuffix(path, "TransitionTime") { // which Kubernetes' types for the wire may leave out
			delete(stored, path)
			continue
		}
		stored[path] = timeless(v)
	}
	sort.Strings(a.Warnings)
	return Result{Warnings: a.Warnings, Stored: stored}, nil
}

// timeless puts a word in place of the time of the test.
func timeless(v any) any {
	switch v := v.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil && time.Since(at).Abs() < time.Hour {
			return "now"
		}
	case map[string]any:
		for k := range v {
			v[k] = timeless(v[k])
		}
	case []any:
		for i := range v {
			v[i] = timeless(v[i])
		}
	}
	return v
}

// structs are values that are not compared: Kubernetes prints them with the names of types of its own.
var structs = regexp.MustCompile(`(Invalid|Duplicate) value: (\{.*\}|\[\{.*\}\])`)

// beyond leaves out what is in base as well.
func beyond(stored, base map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range stored {
		if b, in := base[k]; !in || !reflect.DeepEqual(v, b) {
			out[k] = v
		}
	}
	return out
}

func parsed(text []byte) (table, error) {
	var plain any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return table{}, err
	}
	asJSON, err := json.Marshal(plain)
	if err != nil {
		return table{}, err
	}
	var t table
	reader := json.NewDecoder(bytes.NewReader(asJSON))
	reader.DisallowUnknownFields()
	err = reader.Decode(&t)
	return t, err
}
