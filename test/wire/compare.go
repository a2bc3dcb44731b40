package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Differences says where an answer is not what is wanted, one line each.
func Differences(got, want *Answer) ([]string, error) {
	g, err := tree(got)
	if err != nil {
		return nil, err
	}
	w, err := tree(want)
	if err != nil {
		return nil, err
	}
	return differences("", g, w), nil
}

// tree is an answer as it is after being written and read.
func tree(a *Answer) (any, error) {
	raw, err := yaml.Marshal(a)
	if err != nil {
		return nil, err
	}
	var v any
	err = yaml.Unmarshal(raw, &v)
	sortManagers(v)
	return v, err
}

// sortManagers takes the time out of the order of managed fields: those of one second are sorted by
// name, and where a second ends while a case runs is chance.
func sortManagers(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if list, ok := below.([]any); ok && key == "managedFields" {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(short(a), short(b)) })
				continue
			}
			sortManagers(below)
		}
	case []any:
		for _, below := range v {
			sortManagers(below)
		}
	}
}

func differences(at string, got, want any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		all := maps.Clone(g)
		maps.Copy(all, w)
		var out []string
		for _, key := range slices.Sorted(maps.Keys(all)) {
			place := at + "." + key
			_, there := g[key]
			_, wanted := w[key]
			switch {
			case !there:
				out = append(out, fmt.Sprintf("%s: lacks %s", place, short(w[key])))
			case !wanted:
				out = append(out, fmt.Sprintf("%s: extra %s", place, short(g[key])))
			default:
				out = append(out, differences(place, g[key], w[key])...)
			}
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		var out []string
		for i := range max(len(g), len(w)) {
			place := at + "." + strconv.Itoa(i)
			switch {
			case i >= len(g):
				out = append(out, fmt.Sprintf("%s: lacks %s", place, short(w[i])))
			case i >= len(w):
				out = append(out, fmt.Sprintf("%s: extra %s", place, short(g[i])))
			default:
				out = append(out, differences(place, g[i], w[i])...)
			}
		}
		return out
	}
	if short(got) == short(want) {
		return nil
	}
	return []string{fmt.Sprintf("%s: is   %s\n\twant %s", at, short(got), short(want))}
}

func short(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
