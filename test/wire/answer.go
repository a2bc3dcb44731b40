package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
)

// Answer is what came, normalized. Events are of a watch.
type Answer struct {
	Code    int            `yaml:"code,omitempty"`
	Headers map[string]any `yaml:"headers,omitempty"`
	Body    any            `yaml:"body,omitempty"`
	Events  []any          `yaml:"events,omitempty"`
	End     bool           `yaml:"end,omitempty"`
}

// ordinary are the headers that most answers have, and which others are compared ("").
var ordinary = map[string]string{
	"Content-Type": "application/json", "Cache-Control": "no-cache, private", "Audit-Id": "{uid}",
	"X-Kubernetes-Pf-Flowschema-Uid": "{uid}", "X-Kubernetes-Pf-Prioritylevel-Uid": "{uid}",
	"Warning": "", "Location": "", "Allow": "", "Retry-After": "", "Vary": "", "Etag": "", "Content-Encoding": "",
	"X-Content-Type-Options": "", "Www-Authenticate": "", "Accept-Patch": "", "X-From-Cache": "", "Last-Modified": "",
	"Strict-Transport-Security": "", "Expires": "",
}

// headers keeps of an answer's headers what is not ordinary.
func (n *Names) headers(h http.Header) map[string]any {
	out := map[string]any{}
	for name, usual := range ordinary {
		list := slices.Clone(h.Values(name))
		for i, v := range list {
			switch {
			case usual == "{uid}" && uuid.MatchString(v):
				list[i] = usual
			case name == "Etag" && len(v) > 20:
				list[i] = "{etag}"
			default:
				list[i] = n.Text(v)
			}
		}
		switch {
		case len(list) > 1:
			out[name] = anys(list)
		case strings.Join(list, "") != usual:
			out[name] = strings.Join(list, "")
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// answer normalizes what a request got.
func (n *Names) answer(s *Step, res *http.Response, raw []byte) (*Answer, error) {
	body, err := decode(res.Header, raw)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Keep)) {
		v, ok := at(body, s.Keep[name])
		if !ok {
			return nil, fmt.Errorf("%s is not in the answer: %d %s", s.Keep[name], res.StatusCode, raw)
		}
		n.Keep(name, fmt.Sprint(v))
	}
	if text, ok := body.(string); ok && s.Lines != "" {
		if body, err = lines(text, s.Lines); err != nil {
			return nil, err
		}
	}
	a := &Answer{Code: res.StatusCode, Headers: n.headers(res.Header), Body: n.Value(body)}
	a.Body = brief(a)
	if len(s.Show) > 0 {
		shown := map[string]any{}
		for _, path := range s.Show {
			if v, ok := at(a.Body, path); ok {
				shown[path] = v
			}
		}
		a.Body = shown
	}
	for _, path := range s.Ignore {
		hide(a.Body, path)
	}
	return a, nil
}

// brief writes a failure without what all failures have: failure stands for its reason.
func brief(a *Answer) any {
	b, ok := a.Body.(map[string]any)
	meta, _ := b["metadata"].(map[string]any)
	if !ok || b["kind"] != "Status" || b["apiVersion"] != "v1" || b["status"] != "Failure" || b["code"] != a.Code || b["reason"] == nil || meta == nil || len(meta) > 0 {
		return a.Body
	}
	out := map[string]any{"failure": b["reason"]}
	for k, v := range b {
		switch k {
		case "kind", "apiVersion", "status", "code", "reason", "metadata":
		default:
			out[k] = v
		}
	}
	return out
}

func lines(text, pattern string) (string, error) {
	keep, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if keep.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// decode reads a body: JSON and protobuf as values, anything else as text.
func decode(h http.Header, raw []byte) (any, error) {
	if h.Get("Content-Encoding") == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if raw, err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(string(raw), "k8s\x00") {
		obj, kind, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
		if err != nil {
			return fmt.Sprintf("protobuf: %v", err), nil
		}
		if raw, err = json.Marshal(obj); err != nil {
			return nil, err
		}
		v, err := fromJSON(raw)
		return map[string]any{"protobuf": kind.String(), "object": v}, err
	}
	if v, err := fromJSON(raw); err == nil {
		if _, ok := v.(map[string]any); ok {
			return v, nil
		}
	}
	if len(raw) == 0 {
		return nil, nil
	}
	return string(raw), nil
}

func fromJSON(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return plain(v), nil
}

// plain turns numbers into those that YAML has.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.Atoi(v.String()); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return v
}

// at is what lies at a path such as items.0.metadata.name; a dot in a key is written \.
func at(v any, path string) (any, bool) {
	for _, key := range keys(path) {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[key]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// hide replaces what lies at a path by {any}; * stands for each of a list or map.
func hide(v any, path string) {
	list := keys(path)
	key, rest := list[0], strings.Join(escaped(list[1:]), ".")
	switch in := v.(type) {
	case map[string]any:
		for k := range in {
			switch {
			case k != key && key != "*":
			case rest == "":
				in[k] = "{any}"
			default:
				hide(in[k], rest)
			}
		}
	case []any:
		for i := range in {
			switch {
			case strconv.Itoa(i) != key && key != "*":
			case rest == "":
				in[i] = "{any}"
			default:
				hide(in[i], rest)
			}
		}
	}
}

func keys(path string) []string {
	list := strings.Split(strings.ReplaceAll(path, `\.`, "\x00"), ".")
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "\x00", ".")
	}
	return list
}

func escaped(list []string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = strings.ReplaceAll(list[i], ".", `\.`)
	}
	return out
}

func keysOf(m map[string]any) iter.Seq[string] { return maps.Keys(m) }
