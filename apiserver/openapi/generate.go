//go:build ignore

// Writes marks.txt: what the Go types of the API say in comments alone, where reflection
// does not see it. Run by go generate after a new release of k8s.io/api.
//
// A line is the name of a type, or after a tab that of a field, and its marks: required and
// optional where the JSON tag does not say so, listType, mapType, structType, listMapKey,
// default (as JSON) and union, discriminator, member. A type of string that may have some
// values alone has them after enum, as a JSON object that says of each what it means.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// modules are where the types of the API are.
var modules = map[string]string{
	"k8s.io/api": "", "k8s.io/apimachinery": "pkg",
	"k8s.io/apiextensions-apiserver": "pkg/apis/apiextensions", "k8s.io/kube-aggregator": "pkg/apis/apiregistration",
}

type tables struct {
	types  map[string][]string          // marks of a type
	fields map[string]map[string]string // of its fields
	values map[string]map[string]string // of the constants of a type, and what each means
	names  map[string]string            // value of a constant
}

func main() {
	t := &tables{
		types: map[string][]string{}, fields: map[string]map[string]string{}, values: map[string]map[string]string{}, names: map[string]string{},
	}
	for module, below := range modules {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			log.Fatalf("find %s: %v", module, err)
		}
		if err := t.module(module, strings.TrimSpace(string(dir)), below); err != nil {
			log.Fatalf("read %s: %v", module, err)
		}
	}
	if err := os.WriteFile("marks.txt", t.text(), 0o644); err != nil {
		log.Fatal(err)
	}
}

func (t *tables) module(module, dir, below string) error {
	return filepath.WalkDir(filepath.Join(dir, below), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(d.Name(), "zz_") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		t.file(module+"/"+filepath.ToSlash(rel), file)
		return nil
	})
}

func (t *tables) file(pkg string, file *ast.File) {
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				doc := gen.Doc
				if s.Doc != nil {
					doc = s.Doc
				}
				t.declared(pkg, s, doc)
			case *ast.ValueSpec:
				t.constant(pkg, s, file.Imports)
			}
		}
	}
}

func (t *tables) declared(pkg string, s *ast.TypeSpec, doc *ast.CommentGroup) {
	name := pkg + "." + s.Name.Name
	m := marks(doc)
	for _, mark := range []string{"enum", "union"} {
		if _, ok := m[mark]; ok {
			t.types[name] = append(t.types[name], mark)
		}
	}
	for _, mark := range []string{"listType", "mapType", "structType"} {
		if v := m[mark]; len(v) > 0 {
			t.types[name] = append(t.types[name], mark+"="+v[0])
		}
	}
	fields, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	_, union := m["union"]
	for _, f := range fields.Fields.List {
		if f.Tag == nil {
			continue
		}
		if text := fieldMarks(pkg, f, union); text != "" {
			if t.fields[name] == nil {
				t.fields[name] = map[string]string{}
			}
			t.fields[name][fieldName(f)] = text
		}
	}
}

// fieldName is that of an embedded type's own for an embedded field.
func fieldName(f *ast.Field) string {
	if len(f.Names) > 0 {
		return f.Names[0].Name
	}
	switch t := f.Type.(type) {
	case *ast.SelectorExpr:
		return t.Sel.Name
	case *ast.Ident:
		return t.Name
	}
	return ""
}

func fieldMarks(pkg string, f *ast.Field, union bool) string {
	m := marks(f.Doc)
	var all []string
	omitted := strings.Contains(f.Tag.Value, ",omitempty") || strings.Contains(f.Tag.Value, ",omitzero")
	_, required := m["required"]
	_, optional := m["optional"]
	switch {
	case required && omitted:
		all = append(all, "required")
	case optional && !required && !omitted:
		all = append(all, "optional")
	}
	for _, mark := range []string{"listType", "mapType", "structType"} {
		if v := m[mark]; len(v) > 0 {
			all = append(all, mark+"="+v[0])
		}
	}
	if keys := m["listMapKey"]; len(keys) > 0 {
		all = append(all, "listMapKey="+strings.Join(keys, ","))
	}
	if _, ok := m["unionDiscriminator"]; ok {
		all = append(all, "discriminator")
	} else if union && optional {
		all = append(all, "member")
	}
	if v := m["default"]; len(v) > 0 { // last: it may hold spaces
		if name, ok := strings.CutPrefix(v[0], "ref("); ok {
			v[0] = "@" + pkg + "." + strings.TrimSuffix(name, ")")
		}
		all = append(all, "default="+v[0])
	}
	return strings.Join(all, " ")
}

func (t *tables) constant(pkg string, s *ast.ValueSpec, imports []*ast.ImportSpec) {
	if len(s.Values) != 1 {
		return
	}
	named, _ := s.Type.(*ast.Ident)
	literal := s.Values[0]
	if call, ok := literal.(*ast.CallExpr); ok && named == nil && len(call.Args) == 1 { // Name = Type("text")
		named, _ = call.Fun.(*ast.Ident)
		literal = call.Args[0]
	}
	if named == nil {
		return
	}
	name, text := pkg+"."+named.Name, ""
	switch value := literal.(type) {
	case *ast.BasicLit:
		var err error
		if text, err = strconv.Unquote(value.Value); err != nil || value.Kind != token.STRING {
			return
		}
	case *ast.SelectorExpr: // a constant of another package
		if text = reference(value, imports); text == "" {
			return
		}
	default:
		return
	}
	if t.values[name] == nil {
		t.values[name] = map[string]string{}
	}
	t.values[name][text] = meaning(s)
	t.names[pkg+"."+s.Names[0].Name] = text
}

// meaning is the comment on a constant as it goes on after the constant's name.
func meaning(s *ast.ValueSpec) string {
	words := strings.Fields(s.Doc.Text())
	if len(words) > 0 && words[0] == s.Names[0].Name {
		words = words[1:]
	}
	return strings.Join(words, " ")
}

// reference is "@" and the full name of a constant in another package.
func reference(s *ast.SelectorExpr, imports []*ast.ImportSpec) string {
	of, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, i := range imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err == nil && (i.Name != nil && i.Name.Name == of.Name || i.Name == nil && filepath.Base(path) == of.Name) {
			return "@" + path + "." + s.Sel.Name
		}
	}
	return ""
}

// marks are what a comment says to tools: "+name=value" or "+name".
func marks(doc *ast.CommentGroup) map[string][]string {
	all := map[string][]string{}
	if doc == nil {
		return all
	}
	for _, c := range doc.List {
		if text, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(c.Text, "//")), "+"); ok {
			name, value, _ := strings.Cut(text, "=")
			all[name] = append(all[name], value)
		}
	}
	return all
}

func (t *tables) text() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Written by generate.go; do not edit.")
	names := maps.Clone(t.types)
	for name := range t.fields {
		names[name] = t.types[name]
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		own := slices.DeleteFunc(slices.Clone(names[name]), func(m string) bool { return m == "enum" })
		if values := t.values[name]; slices.Contains(names[name], "enum") && len(values) > 0 {
			for v, means := range maps.Clone(values) {
				if constant, ok := strings.CutPrefix(v, "@"); ok {
					delete(values, v)
					values[t.names[constant]] = means
				}
			}
			raw, err := json.Marshal(values)
			if err != nil {
				log.Fatal(err)
			}
			own = append(own, "enum="+string(raw))
		}
		if len(own) == 0 && len(t.fields[name]) == 0 {
			continue
		}
		fmt.Fprintln(&b, strings.Join(append([]string{name}, own...), " "))
		for _, field := range slices.Sorted(maps.Keys(t.fields[name])) {
			text := t.fields[name][field]
			if before, constant, ok := strings.Cut(text, "default=@"); ok {
				text = before + "default=" + strconv.Quote(t.names[constant])
			}
			fmt.Fprintf(&b, "\t%s %s\n", field, text)
		}
	}
	return b.Bytes()
}
