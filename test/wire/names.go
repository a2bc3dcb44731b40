package wire

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names are the placeholders of one run of a case: what stands for which value. They hold in
// both directions: in answers the value becomes the placeholder, in requests the placeholder
// becomes the value. So that two answers are equal only if the same things are the same in both,
// values are numbered as they are met:
//
//	{uid1}         anything that looks like a UID
//	{rv1}          metadata.resourceVersion of an object
//	{revision}     that of a list or bookmark, the last one that was seen
//	{continue}     the last token for more of a list
//	{time}         a time between an hour ago and a year ahead; {microtime} if it has microseconds
//	{age}          an age in a table's cell
//	{ip}, {port}   a service's address or node port that was chosen by the server
//	{server}       host and port
//	{ns}, {...}    the case's namespace, and what steps keep
type Names struct {
	values map[string]string // of placeholders, without braces
	texts  []string          // placeholders whose values are replaced wherever they are, longest value first
	now    time.Time
}

// NewNames begins with what is known before the first step.
func NewNames(ns, server string) *Names {
	n := &Names{values: map[string]string{}, now: time.Now()}
	n.Keep("ns", ns)
	n.Keep("server", server)
	if _, port, found := strings.Cut(server, ":"); found {
		n.Keep("advertised", "192.0.2.2:"+port) // the address that the server is told to say it has
	}
	return n
}

// Keep has a value replaced in all texts from here on.
func (n *Names) Keep(name, value string) {
	if value == "" {
		return
	}
	if _, there := n.values[name]; !there {
		n.texts = append(n.texts, name)
	}
	n.values[name] = value
	slices.SortStableFunc(n.texts, func(a, b string) int { return len(n.values[b]) - len(n.values[a]) })
}

var (
	placeholder = regexp.MustCompile(`\{([a-z]\w*)\}`)
	repeated    = regexp.MustCompile(`\{(.)\*(\d+)\}`)
	uuid        = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	moment      = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	chosen      = regexp.MustCompile(`\b10\.96\.\d+\.\d+\b`)
	age         = regexp.MustCompile(`^(\d+[smhd])+$`)
	mounted     = regexp.MustCompile(`\bkube-api-access-[a-z0-9]{5}\b`)
	listed      = regexp.MustCompile(`(?m)^(metadata:\n  resourceVersion:) "\d+"`)                           // of a list, in YAML
	versioned   = regexp.MustCompile(`resourceVersion: "(\d+)"`)                                             // in YAML
	mentioned   = regexp.MustCompile(`(in record \(|version: \d+ \(|current: |resourceVersion\\?":\\?")\d+`) // versions in messages
)

// Fill puts values in the place of placeholders, in a text of a request.
func (n *Names) Fill(text string) string {
	text = repeated.ReplaceAllStringFunc(text, func(s string) string {
		m := repeated.FindStringSubmatch(s)
		count, err := strconv.Atoi(m[2])
		if err != nil || count > 64<<20 {
			return s
		}
		return strings.Repeat(m[1], count)
	})
	return placeholder.ReplaceAllStringFunc(text, func(s string) string {
		if v, ok := n.values[s[1:len(s)-1]]; ok {
			return v
		}
		return s
	})
}

// number gives a value its numbered placeholder.
func (n *Names) number(kind, value string) string {
	for i := 1; ; i++ {
		name := fmt.Sprint(kind, i)
		v, there := n.values[name]
		if !there {
			n.values[name] = value
		}
		if !there || v == value {
			return "{" + name + "}"
		}
	}
}

// Text replaces what varies in any text.
func (n *Names) Text(s string) string {
	for _, name := range n.texts {
		s = strings.ReplaceAll(s, n.values[name], "{"+name+"}")
	}
	s = uuid.ReplaceAllStringFunc(s, func(v string) string { return n.number("uid", v) })
	s = mounted.ReplaceAllString(s, "kube-api-access-{random}")
	s = listed.ReplaceAllString(s, `$1 "{revision}"`)
	s = versioned.ReplaceAllStringFunc(s, func(v string) string {
		return `resourceVersion: "` + n.number("rv", versioned.FindStringSubmatch(v)[1]) + `"`
	})
	s = moment.ReplaceAllStringFunc(s, n.time)
	s = chosen.ReplaceAllStringFunc(s, func(v string) string {
		if v == "10.96.0.1" {
			return v
		}
		return "{ip}"
	})
	return mentioned.ReplaceAllStringFunc(s, func(m string) string {
		at := strings.LastIndexFunc(m, func(c rune) bool { return c < '0' || c > '9' }) + 1
		if m[at:] == n.values["revision"] {
			return m[:at] + "{revision}"
		}
		for i := 1; ; i++ {
			name := fmt.Sprint("rv", i)
			switch known, there := n.values[name]; {
			case !there:
				return m
			case known == m[at:]:
				return m[:at] + "{" + name + "}"
			}
		}
	})
}

func (n *Names) time(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Before(n.now.Add(-time.Hour)) || t.After(n.now.AddDate(1, 0, 0)) {
		return text
	}
	if strings.Contains(text, ".") {
		return "{microtime}"
	}
	return "{time}"
}

// Value replaces what varies in a decoded body.
func (n *Names) Value(v any) any {
	switch v := v.(type) {
	case string:
		return n.Text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = n.Value(v[i])
		}
		return out
	case map[string]any:
		return n.object(v)
	}
	return v
}

func (n *Names) object(in map[string]any) map[string]any {
	out := make(map[string]any, len(in))
	if meta, ok := in["metadata"].(map[string]any); ok { // before what follows, which may name the same versions
		out["metadata"] = n.metadata(meta, isList(in))
	}
	// A fixed order, so that the numbers are the same each time.
	for _, key := range slices.Sorted(keysOf(in)) {
		v := in[key]
		_, isMap := v.(map[string]any)
		switch {
		case key == "metadata" && isMap:
		case key == "managedFields":
			out[key] = n.managed(v)
		case key == "nodePort":
			out[key] = "{port}"
		case key == "cells":
			out[key] = n.cells(v)
		case key == "object" && in["type"] == "BOOKMARK" && isMap:
			out[key] = n.bookmark(v.(map[string]any))
		default:
			out[key] = n.Value(v)
		}
	}
	return out
}

func isList(in map[string]any) bool {
	_, items := in["items"]
	kind, _ := in["kind"].(string)
	return items || kind == "Table" || strings.HasSuffix(kind, "List")
}

func (n *Names) metadata(meta map[string]any, list bool) map[string]any {
	out := make(map[string]any, len(meta))
	for _, key := range slices.Sorted(keysOf(meta)) {
		text, _ := meta[key].(string)
		switch {
		case key == "resourceVersion" && text != "" && text != "0":
			out[key] = n.version(text, list)
		case key == "managedFields":
			out[key] = n.managed(meta[key])
		case key == "continue" && text != "":
			n.values["continue"] = text
			out[key] = "{continue}"
		default:
			out[key] = n.Value(meta[key])
		}
	}
	return out
}

func (n *Names) version(text string, list bool) string {
	if list {
		n.values["revision"] = text
		return "{revision}"
	}
	return n.number("rv", text)
}

func (n *Names) bookmark(o map[string]any) any {
	if meta, ok := o["metadata"].(map[string]any); ok {
		copied := map[string]any{}
		for k, v := range o {
			copied[k] = v
		}
		delete(copied, "metadata")
		out := n.object(copied)
		out["metadata"] = n.metadata(meta, true)
		return out
	}
	return n.Value(o)
}

func (n *Names) cells(v any) any {
	list, ok := v.([]any)
	if !ok {
		return n.Value(v)
	}
	out := make([]any, len(list))
	for i, c := range list {
		if text, ok := c.(string); ok && age.MatchString(text) {
			out[i] = "{age}"
			continue
		}
		out[i] = n.Value(c)
	}
	return out
}

// managed writes each entry that has all its parts on one line:
// manager operation/subresource version time: fields.
func (n *Names) managed(v any) any {
	list, ok := v.([]any)
	if !ok {
		return n.Value(v)
	}
	out := make([]any, len(list))
	for i := range list {
		e, _ := list[i].(map[string]any)
		set, ok := e["fieldsV1"].(map[string]any)
		if !ok || e["fieldsType"] != "FieldsV1" {
			out[i] = n.Value(list[i])
			continue
		}
		line := fmt.Sprint(e["manager"], " ", e["operation"])
		if sub, ok := e["subresource"]; ok {
			line += fmt.Sprint("/", sub)
		}
		out[i] = n.Text(fmt.Sprint(line, " ", e["apiVersion"], " ", e["time"], ": ", fields(set)))
	}
	return out
}

// fields writes a set of fields on one line: f:data{. f:key} stands for {"f:data":{".":{},"f:key":{}}}.
func fields(set map[string]any) string {
	var parts []string
	for _, key := range slices.Sorted(keysOf(set)) {
		below, _ := set[key].(map[string]any)
		if len(below) > 0 {
			key += "{" + fields(below) + "}"
		}
		parts = append(parts, key)
	}
	return strings.Join(parts, " ")
}
