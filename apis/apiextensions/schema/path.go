package schema

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

var errNoField = errors.New("does not refer to a valid field")

// At follows a path of fields (".spec.name", ".spec['a.b']") to its schema. brackets says whether the
// second form is allowed.
func (s *Schema) At(path string, brackets bool) (*Schema, []string, error) {
	var names []string
	for rest := path; rest != ""; {
		name, after, err := cut(rest, brackets)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case s.Properties != nil:
			s = s.Properties[name]
		case s.Additional != nil:
			s = s.Additional
		default:
			s = nil
		}
		if s == nil {
			return nil, nil, errNoField
		}
		names, rest = append(names, name), after
	}
	return s, names, nil
}

// cut takes the first step off a path.
func cut(path string, brackets bool) (name, rest string, err error) {
	switch path[0] {
	case '.':
		end := strings.IndexAny(path[1:], ".[]")
		if end < 0 {
			end = len(path) - 1
		}
		if end == 0 {
			return "", "", errors.New("unexpected end of JSON path")
		}
		return path[1 : 1+end], path[1+end:], nil
	case '[':
		if !brackets {
			return "", "", errors.New("array notation is not allowed")
		}
		return cutQuoted(path)
	}
	step, _, _ := strings.Cut(path, ".")
	return "", "", fmt.Errorf("expected [ or . but got: %s", step)
}

func cutQuoted(path string) (name, rest string, err error) {
	if len(path) < 2 {
		return "", "", errors.New("unexpected end of JSON path")
	}
	if path[1] != '\'' {
		step, _, _ := strings.Cut(path[1:], "]")
		return "", "", fmt.Errorf("expected single quoted string but got %s", step)
	}
	var b strings.Builder
	for i := 2; i < len(path); i++ {
		switch path[i] {
		case '\\':
			if i++; i == len(path) {
				return "", "", errors.New("unexpected end of JSON path")
			}
			at := strings.IndexByte(`abfnrtv'\`, path[i])
			if at < 0 {
				return "", "", fmt.Errorf("invalid string literal: invalid escape char \\%c", path[i])
			}
			b.WriteByte("\a\b\f\n\r\t\v'\\"[at])
		case '\'':
			if i+1 == len(path) {
				return "", "", errors.New("unexpected end of JSON path")
			}
			if path[i+1] != ']' {
				return "", "", fmt.Errorf("expected ] but got %c", path[i+1])
			}
			return b.String(), path[i+2:], nil
		default:
			b.WriteByte(path[i])
		}
	}
	return "", "", errors.New("unexpected end of JSON path")
}

// under appends a rule's fieldPath, which has been checked, to the path of its value.
func under(path *field.Path, fieldPath string) *field.Path {
	for rest := fieldPath; rest != ""; {
		name, after, err := cut(rest, true)
		if err != nil {
			return path
		}
		path, rest = path.Child(name), after
	}
	return path
}
