package ownership

import (
	"cmp"
	"reflect"
	"strconv"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// A path element is kept as it stands between the quotes of FieldsV1: "f:name" for a field or the
// entry of a map, `k:{\"name\":\"a\"}` for the item of a keyed list, `v:\"a\"` for that of a set. Only
// texts that need no further escaping are handled, so that equal texts and equal elements are the same.

// plain says that s is written in JSON as it is. strict is for texts inside keys and values, where the
// library escapes HTML as well.
func plain(s string, strict bool) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~' || c == '"' || c == '\\':
			return false
		case strict && (c == '<' || c == '>' || c == '&'):
			return false
		}
	}
	return true
}

// plainKey says that values of t can tell items of a list apart.
func plainKey(t reflect.Type) bool {
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return false
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.String || t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64
}

// exact bounds the numbers that survive being read as a float64.
const exact = 1 << 53

// appendScalar writes a value of a plainKey type.
func appendScalar(b []byte, v reflect.Value) ([]byte, bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return b, false
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.String {
		s := v.String()
		b = append(append(append(b, `\"`...), s...), `\"`...)
		return b, plain(s, true)
	}
	n := v.Int()
	return strconv.AppendInt(b, n, 10), -exact < n && n < exact
}

// defaultText is the text of a default in the schema, "" for none.
func defaultText(def any) (string, bool) {
	switch d := def.(type) {
	case nil:
		return "", true
	case string:
		return `\"` + d + `\"`, plain(d, true)
	case int:
		return strconv.Itoa(d), true
	case int64:
		return strconv.FormatInt(d, 10), true
	case float64:
		return strconv.FormatInt(int64(d), 10), d == float64(int64(d))
	}
	return "", false
}

// appendKey writes the path element of an item; ok is false where it has no key or an unusual one.
func (s *shape) appendKey(b []byte, item reflect.Value) (out []byte, ok bool) {
	if s.form == set {
		return appendScalar(append(b, "v:"...), item)
	}
	b = append(b, "k:{"...)
	some := false
	for i := range s.keys {
		k := &s.keys[i]
		v := reflect.Value{}
		if k.field != nil {
			v = k.field.of(item)
		}
		if !v.IsValid() && k.fallback == "" {
			continue
		}
		if some {
			b = append(b, ',')
		}
		some = true
		b = append(append(append(b, `\"`...), k.name...), `\":`...)
		if !v.IsValid() {
			b = append(b, k.fallback...)
		} else if b, ok = appendScalar(b, v); !ok {
			return b, false
		}
	}
	return append(b, '}'), some
}

// compareElements is the library's order: fields by name, then keys, then values; numbers
// before texts.
func compareElements(a, b string) int {
	if a[0] != b[0] {
		return cmp.Compare(a[0], b[0]) // f, k, v
	}
	if a[0] == 'f' || a == b {
		return strings.Compare(a, b)
	}
	if a[0] == 'v' {
		x, _, _ := cutScalar(a[2:])
		y, _, _ := cutScalar(b[2:])
		return x.compare(y)
	}
	a, b = a[len("k:"):], b[len("k:"):]
	for {
		m, x, restA, okA := cutPair(a)
		n, y, restB, okB := cutPair(b)
		if !okA || !okB {
			return cmp.Compare(len(a), len(b)) // the one with fewer keys first
		}
		if c := cmp.Or(strings.Compare(m, n), x.compare(y)); c != 0 {
			return c
		}
		a, b = restA, restB
	}
}

// scalar is a value read from a path element.
type scalar struct {
	text   string
	number int64
	isText bool
}

func (s scalar) compare(o scalar) int {
	switch {
	case s.isText != o.isText:
		if o.isText {
			return -1
		}
		return 1
	case s.isText:
		return strings.Compare(s.text, o.text)
	}
	return cmp.Compare(s.number, o.number)
}

// cutScalar takes a text or whole number off the front; ok is false where there is none that the
// library would write so.
func cutScalar(s string) (v scalar, rest string, ok bool) {
	if after, isText := strings.CutPrefix(s, `\"`); isText {
		text, rest, ok := strings.Cut(after, `\"`)
		return scalar{text: text, isText: true}, rest, ok && plain(text, true)
	}
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '-') {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	ok = err == nil && -exact < n && n < exact && strconv.FormatInt(n, 10) == s[:end]
	return scalar{number: n}, s[end:], ok
}

// cutPair takes the next field off a key: one after "{" or ",".
func cutPair(s string) (name string, v scalar, rest string, ok bool) {
	if s == "" || s[0] != '{' && s[0] != ',' {
		return "", v, s, false
	}
	n, rest, ok := cutScalar(s[1:])
	if !ok || !n.isText || rest == "" || rest[0] != ':' {
		return "", v, s, false
	}
	v, rest, ok = cutScalar(rest[1:])
	return n.text, v, rest, ok
}

// canonical says that an element read from an entry stands as the library writes it.
func canonical(e string) bool {
	if len(e) < 2 || e[1] != ':' {
		return false
	}
	switch e[0] {
	case 'f':
		return plain(e[2:], false)
	case 'v':
		_, rest, ok := cutScalar(e[2:])
		return ok && rest == ""
	case 'k':
		last, rest := "", e[2:]
		for rest != "}" {
			name, _, after, ok := cutPair(rest)
			if !ok || last != "" && name <= last || rest[0] == '{' != (last == "") {
				return false
			}
			last, rest = name, after
		}
		return last != ""
	}
	return false
}
