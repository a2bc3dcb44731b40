package apis_test

import (
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// A path names a field as validation does: spec.ports[0].name, metadata.labels[app].
var step = regexp.MustCompile(`^\.?([^.\[\]]+)|^\[([^\]]*)\]`)

// edited gives a copy of value in which the fields at the paths have other values; nil removes one, and
// the index after the last of a list adds to it.
func edited(value any, edits map[string]any) (any, error) {
	value = copied(value)
	for _, path := range sortedKeys(edits) {
		var err error
		if value, err = set(value, path, edits[path]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return value, nil
}

func set(in any, path string, to any) (any, error) {
	if path == "" {
		return copied(to), nil
	}
	m := step.FindStringSubmatch(path)
	if m == nil {
		return nil, fmt.Errorf("%q is not a path", path)
	}
	name, rest := m[1]+m[2], path[len(m[0]):]
	if i, err := strconv.Atoi(m[2]); err == nil && !isMap(in) {
		return setElement(in, i, rest, to)
	}
	fields, _ := in.(map[string]any)
	if fields == nil {
		if in != nil {
			return nil, fmt.Errorf("%q is in no object", name)
		}
		fields = map[string]any{}
	}
	if rest == "" && to == nil {
		delete(fields, name)
		return fields, nil
	}
	inner, err := set(fields[name], rest, to)
	if err != nil {
		return nil, err
	}
	fields[name] = inner
	return fields, nil
}

func setElement(in any, i int, rest string, to any) (any, error) {
	list, _ := in.([]any)
	if i > len(list) || list == nil && in != nil {
		return nil, fmt.Errorf("there is no element %d", i)
	}
	if rest == "" && to == nil {
		return append(list[:i:i], list[min(i+1, len(list)):]...), nil
	}
	if i == len(list) {
		list = append(list, nil)
	}
	inner, err := set(list[i], rest, to)
	list[i] = inner
	return list, err
}

func isMap(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = copied(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = copied(e)
		}
		return out
	}
	return v
}

// changes are the edits that make to of from.
func changes(from, to any) map[string]any {
	out := map[string]any{}
	compare("", from, to, out)
	return out
}

func compare(path string, from, to any, out map[string]any) {
	if reflect.DeepEqual(from, to) {
		return
	}
	a, aMap := from.(map[string]any)
	b, bMap := to.(map[string]any)
	if aMap && bMap {
		for k := range a {
			compare(child(path, k), a[k], b[k], out)
		}
		for k := range b {
			if _, known := a[k]; !known {
				compare(child(path, k), nil, b[k], out)
			}
		}
		return
	}
	c, aList := from.([]any)
	d, bList := to.([]any)
	if aList && bList && len(c) == len(d) {
		for i := range c {
			compare(fmt.Sprintf("%s[%d]", path, i), c[i], d[i], out)
		}
		return
	}
	out[path] = to
}

func child(path, name string) string {
	if strings.ContainsAny(name, "./[]") {
		return path + "[" + name + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return natural(keys[i]) < natural(keys[j]) })
	return keys
}

// natural makes ports[10] come after ports[9].
func natural(path string) string {
	return number.ReplaceAllStringFunc(path, func(n string) string { return fmt.Sprintf("%06s", n) })
}

var number = regexp.MustCompile(`[0-9]+`)
