package openapi

import (
	_ "embed"
	"maps"
	"reflect"
	"strings"
)

// wordText describes types that bring no description along, in the form that its first line tells.
//
//go:embed words.txt
var wordText string

// readWords gives the descriptions of types ("") and their fields by the type's model name.
func readWords() map[string]map[string]string {
	all, current := map[string]map[string]string{}, map[string]string{}
	for line := range strings.Lines(wordText) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if field, ok := strings.CutPrefix(name, "\t"); ok {
			current[field] = text
			continue
		}
		current = map[string]string{"": text}
		all[name] = current
	}
	return all
}

// described are the descriptions of a type ("") and its fields, by JSON name. Its own come first.
func (m *models) described(t reflect.Type, name string) map[string]string {
	ours, own := m.words[name], typeDocs(t)
	if ours == nil {
		return own
	}
	ours = maps.Clone(ours)
	for field, text := range own {
		if text != "" {
			ours[field] = text
		}
	}
	return ours
}
