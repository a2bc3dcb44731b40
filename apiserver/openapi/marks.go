package openapi

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"weak"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

//go:generate go run generate.go

// markText is what the types of the API say in comments; generate.go tells its form.
//
//go:embed marks.txt
var markText string

// marks are what the comments on one type or field say. Values are empty for those that have none.
type marks map[string]string

// typeMarks are the marks of a type, and of its fields by their Go names.
type typeMarks struct {
	own    marks
	fields map[string]marks
}

// table is markText by the name of the type. It is there while documents are built: the
// collector may have it afterwards.
var table struct {
	sync.Mutex
	current weak.Pointer[map[string]*typeMarks]
}

func readMarks() map[string]*typeMarks {
	table.Lock()
	defer table.Unlock()
	if all := table.current.Value(); all != nil {
		return *all
	}
	all := parseMarks(markText)
	table.current = weak.Make(&all)
	return all
}

func parseMarks(text string) map[string]*typeMarks {
	all := map[string]*typeMarks{}
	t := &typeMarks{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		field, isField := strings.CutPrefix(line, "\t")
		name, rest, _ := strings.Cut(field, " ")
		if isField {
			t.fields[name] = lineMarks(rest)
			continue
		}
		t = &typeMarks{lineMarks(rest), map[string]marks{}}
		all[name] = t
	}
	return all
}

func lineMarks(text string) marks {
	m := marks{}
	for text != "" {
		mark, rest, _ := strings.Cut(text, " ")
		name, value, _ := strings.Cut(mark, "=")
		if name == "default" || name == "enum" { // JSON, which may hold spaces, up to the end
			_, value, _ = strings.Cut(text, "=")
			rest = ""
		}
		m[name] = value
		text = rest
	}
	return m
}

func (m marks) has(name string) bool {
	_, ok := m[name]
	return ok
}

// value is the JSON that a mark has; nil: it has none.
func (m marks) value(name string) any {
	var v any
	if text, ok := m[name]; !ok || json.Unmarshal([]byte(text), &v) != nil {
		return nil
	}
	return v
}

// marked are the marks of a type; never nil.
func (m *models) marked(t reflect.Type) *typeMarks {
	if found, ok := m.marks[t.PkgPath()+"."+t.Name()]; ok {
		return found
	}
	return &typeMarks{}
}

// addMergeRules says how server-side apply merges the list, map or object.
func (m marks) addMergeRules(s *spec.Schema) {
	if list := m["listType"]; list != "" {
		s.AddExtension(extension+"list-type", list)
	}
	if keys := m["listMapKey"]; keys != "" {
		var list []any
		for key := range strings.SplitSeq(keys, ",") {
			list = append(list, key)
		}
		s.AddExtension(extension+"list-map-keys", list)
	}
	for _, name := range []string{"mapType", "structType"} {
		if v := m[name]; v != "" {
			s.AddExtension(extension+"map-type", v)
		}
	}
}

// addUnion says of which fields of t one alone may be set.
func (m *typeMarks) addUnion(s *spec.Schema, t reflect.Type) {
	if !m.own.has("union") {
		return
	}
	union, members := map[string]any{}, map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch of := m.fields[f.Name]; {
		case of.has("discriminator"):
			union["discriminator"] = name
		case of.has("member"):
			members[name] = f.Name
		}
	}
	union["fields-to-discriminateBy"] = members
	s.AddExtension(extension+"unions", []any{union})
}
