package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Some bodies cost far more than their size. An element of a list that is two bytes long
// becomes a container of a kilobyte. A quantity of a million digits, or one with an exponent of
// ten digits, is a number that takes its reader seconds or all memory, not here alone but with
// each comparison in a scheduler. What may be such a body is looked at before it is decoded.
const (
	// manyBytes is a body whose elements are counted; smaller ones cannot hold too many.
	manyBytes = 64 << 10
	// maxElements bounds the objects in a body. The largest honest ones are definitions of
	// custom resources, with about ten thousand.
	maxElements = 50_000
	// maxQuantity and maxExponent bound a quantity, in characters and in digits.
	maxQuantity = 256
	maxExponent = 4
)

var errElements = fmt.Errorf("more than %d objects", maxElements)

// checkText looks at JSON that is to be decoded into a type; schemaless objects have no
// quantities, and their elements are small.
func checkText(data []byte, into reflect.Type) error {
	if into == reflect.TypeFor[unstructured.Unstructured]() {
		return nil
	}
	if len(data) > manyBytes && objects(data) > maxElements {
		return errElements
	}
	if !large(data) && !hidden.Match(data) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := textValue(d, into, 0); errors.Is(err, errQuantity) {
		return err
	}
	return nil // what is no JSON is found by who decodes it
}

// objects counts the objects and nulls of JSON.
func objects(data []byte) int {
	n, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == '{' || c == 'n'):
			n++
		}
	}
	return n
}

// hidden are escaped digits, signs, points and exponents, which no encoder writes.
var hidden = regexp.MustCompile(`\\u00(3[0-9]|2[bBdDeE]|[46]5)`)

// large says whether text that could be a large quantity is anywhere in data.
func large(data []byte) bool {
	digits := 0
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c >= '0' && c <= '9' || c == '.':
			if digits++; digits > maxQuantity {
				return true
			}
		case (c|0x20) == 'e' && digits > 0:
			if exponent(data[i+1:]) > maxExponent {
				return true
			}
			digits = 0
		default:
			digits = 0
		}
	}
	return false
}

// exponent counts the digits that data begins with, behind a sign.
func exponent(data []byte) int {
	if len(data) > 0 && (data[0] == '+' || data[0] == '-') {
		data = data[1:]
	}
	n := 0
	for n < len(data) && n <= maxExponent && data[n] >= '0' && data[n] <= '9' {
		n++
	}
	return n
}

var (
	errQuantity  = errors.New("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' and be neither longer nor larger than what can be counted")
	quantityType = reflect.TypeFor[resource.Quantity]()
)

func checkQuantity(text string) error {
	if len(text) > maxQuantity || large([]byte(text)) {
		return errQuantity
	}
	return nil
}

// maxText is how deep the decoder of JSON goes.
const maxText = 10_000

var errDeep = errors.New("too deep")

// textValue reads one value of type t (nil: any) from d and looks for large quantities in it.
func textValue(d *json.Decoder, t reflect.Type, depth int) error {
	if depth > maxText {
		return errDeep
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case json.Delim:
		for d.More() {
			child := element(t)
			if v == '{' {
				key, err := d.Token()
				if err != nil {
					return err
				}
				name, _ := key.(string)
				child = shapeOf(t).named(name)
			}
			if err := textValue(d, child, depth+1); err != nil {
				return err
			}
		}
		_, err = d.Token() // its end
		return err
	case string:
		if t == quantityType {
			return checkQuantity(v)
		}
	case json.Number:
		if t == quantityType {
			return checkQuantity(v.String())
		}
	}
	return nil
}

// checkWire looks at protobuf that is to be decoded into a type.
func checkWire(data []byte, into reflect.Type) error {
	if len(data) <= manyBytes && !large(data) {
		return nil
	}
	left := maxElements
	return wireMessage(data, into, &left)
}

// wireMessage looks at a message; the depth is that of the types, which of all kinds only
// schemas of custom resources have without end (see tooDeep).
func wireMessage(data []byte, t reflect.Type, left *int) error {
	if *left--; *left < 0 {
		return errElements
	}
	shape := shapeOf(t)
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil // what is no message is found by who decodes it
		}
		data = data[n:]
		n = protowire.ConsumeFieldValue(number, kind, data)
		if n < 0 {
			return nil
		}
		field, _ := protowire.ConsumeBytes(data[:n])
		data = data[n:]
		if kind != protowire.BytesType {
			continue
		}
		var err error
		switch child := shape.numbered(number); {
		case t == quantityType:
			err = checkQuantity(string(field))
		case child == nil:
		case child.Kind() == reflect.Map:
			err = wireEntry(field, child.Elem(), left)
		case child.Kind() == reflect.Struct:
			err = wireMessage(field, child, left)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wireEntry looks at an entry of a map: a message whose second field is the value.
func wireEntry(data []byte, value reflect.Type, left *int) error {
	if value = plain(value); value.Kind() != reflect.Struct {
		return nil
	}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil
		}
		data = data[n:]
		n = protowire.ConsumeFieldValue(number, kind, data)
		if n < 0 {
			return nil
		}
		if field, _ := protowire.ConsumeBytes(data[:n]); number == 2 && kind == protowire.BytesType {
			if err := wireMessage(field, value, left); err != nil {
				return err
			}
		}
		data = data[n:]
	}
	return nil
}

// shape is what the fields of a type are called in JSON and in protobuf.
type shape struct {
	names   map[string]reflect.Type
	numbers map[protowire.Number]reflect.Type
	all     reflect.Type // of a map: of each of its values
}

func (s *shape) named(name string) reflect.Type {
	if s.all != nil {
		return s.all
	}
	return s.names[name]
}

func (s *shape) numbered(n protowire.Number) reflect.Type { return s.numbers[n] }

var shapes sync.Map // reflect.Type -> *shape; as many as the kinds have types

func shapeOf(t reflect.Type) *shape {
	if t == nil {
		return &shape{}
	}
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	s := &shape{names: map[string]reflect.Type{}, numbers: map[protowire.Number]reflect.Type{}}
	switch t.Kind() {
	case reflect.Map:
		s.all = plain(t.Elem())
	case reflect.Struct:
		s.fields(t)
	}
	known, _ := shapes.LoadOrStore(t, s)
	return known.(*shape)
}

func (s *shape) fields(t reflect.Type) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		child := plain(f.Type)
		if child.Kind() == reflect.Struct && name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			s.fields(child)
		} else if name != "" {
			s.names[name] = child
			if child.Kind() == reflect.Slice { // a list in JSON, its elements in protobuf
				child = plain(child.Elem())
			}
		}
		var number protowire.Number
		if tag := strings.Split(f.Tag.Get("protobuf"), ","); len(tag) > 2 {
			if _, err := fmt.Sscan(tag[1], &number); err == nil {
				s.numbers[number] = child
			}
		}
	}
}

// plain is a type without pointers.
func plain(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// element is the type of a list's elements.
func element(t reflect.Type) reflect.Type {
	if t == nil || t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
		return nil
	}
	return plain(t.Elem())
}
