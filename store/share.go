package store

import (
	"bytes"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/proa-dev/proa/apis/api"
)

// share gives obj those parts of another object of its type that are equal, so that they
// are in memory once. obj itself is not yet seen by anybody; what it points to may be (a status
// taken over from the state before), and is replaced, never written to.
func share(obj, with api.Object) {
	to, from := reflect.ValueOf(obj), reflect.ValueOf(with)
	if _, ok := obj.(*unstructured.Unstructured); ok || to.Kind() != reflect.Pointer || to.Type() != from.Type() || obj == with {
		return
	}
	planOf(to.Type().Elem()).join(to.Elem(), from.Elem())
}

// plan is how values of a type are compared and joined.
type plan struct {
	how    how
	elem   *plan   // of a pointer or slice
	fields []*plan // of a struct
}

type how int

const (
	never   how = iota // not compared: taken as different
	value              // has no parts, compared by ==
	words              // a string
	octets             // a slice of bytes
	record             // a struct whose fields are all exported
	pointer            //
	list               // a slice
	table              // a map
)

// worth is the length from which a string is worth a copy of what holds it.
const worth = 24

var plans sync.Map // of reflect.Type: *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := makePlan(t, map[reflect.Type]*plan{})
	plans.LoadOrStore(t, p)
	return p
}

func makePlan(t reflect.Type, made map[reflect.Type]*plan) *plan {
	if p, ok := made[t]; ok {
		return p
	}
	p := &plan{}
	made[t] = p
	switch t.Kind() {
	case reflect.String:
		p.how = words
	case reflect.Pointer:
		p.how, p.elem = pointer, makePlan(t.Elem(), made)
	case reflect.Slice:
		p.how, p.elem = list, makePlan(t.Elem(), made)
		if t.Elem().Kind() == reflect.Uint8 {
			p.how = octets
		}
	case reflect.Map:
		if simple(t.Elem()) {
			p.how = table
		}
	case reflect.Struct:
		p.how = record
		for f := range t.NumField() {
			if !t.Field(f).IsExported() { // a time, a quantity
				p.how, p.fields = never, nil
				if simple(t) {
					p.how = value
				}
				break
			}
			p.fields = append(p.fields, makePlan(t.Field(f).Type, made))
		}
	default:
		if simple(t) {
			p.how = value
		}
	}
	return p
}

// simple tells whether == says all about two values of a type (and more than needed where
// it has pointers), and cannot panic.
func simple(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface, reflect.Slice, reflect.Map, reflect.Func, reflect.Chan:
		return false
	case reflect.Array:
		return simple(t.Elem())
	case reflect.Struct:
		for f := range t.NumField() {
			if !simple(t.Field(f).Type) {
				return false
			}
		}
	}
	return true
}

// same compares; what it cannot compare is different.
func (p *plan) same(a, b reflect.Value) bool {
	switch p.how {
	case value:
		return a.Equal(b)
	case words:
		return a.String() == b.String()
	case octets:
		return a.IsNil() == b.IsNil() && bytes.Equal(a.Bytes(), b.Bytes())
	case record:
		for f, field := range p.fields {
			if !field.same(a.Field(f), b.Field(f)) {
				return false
			}
		}
		return true
	case pointer:
		return a.UnsafePointer() == b.UnsafePointer() || !a.IsNil() && !b.IsNil() && p.elem.same(a.Elem(), b.Elem())
	case list:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !p.elem.same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case table:
		return sameMap(a, b)
	}
	return false
}

func sameMap(a, b reflect.Value) bool {
	if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
		return false
	}
	for entries := a.MapRange(); entries.Next(); {
		if v := b.MapIndex(entries.Key()); !v.IsValid() || !v.Equal(entries.Value()) {
			return false
		}
	}
	return true
}

// join puts parts of from into to, which is nobody else's, and tells whether memory is saved.
func (p *plan) join(to, from reflect.Value) bool {
	switch p.how {
	case record:
		gained := false
		for f, field := range p.fields {
			gained = field.join(to.Field(f), from.Field(f)) || gained
		}
		return gained
	case words:
		if to.Len() == 0 || to.String() != from.String() {
			return false
		}
		to.Set(from)
		return to.Len() >= worth
	case pointer, list, table, octets:
		if to.IsNil() || from.IsNil() || to.UnsafePointer() == from.UnsafePointer() {
			return false
		}
		if !p.same(to, from) {
			return p.joinParts(to, from)
		}
		if to.Kind() == reflect.Slice {
			from = from.Slice3(0, from.Len(), from.Len()) // nobody appends into it
		}
		to.Set(from)
		return true
	}
	return false
}

// joinParts joins what is behind a pointer or in a slice, in a copy of it.
func (p *plan) joinParts(to, from reflect.Value) bool {
	if p.elem == nil || p.elem.how != record {
		return false
	}
	if p.how == pointer {
		own := reflect.New(to.Type().Elem())
		own.Elem().Set(to.Elem())
		gained := p.elem.join(own.Elem(), from.Elem())
		if gained {
			to.Set(own)
		}
		return gained
	}
	gained := false
	own := reflect.MakeSlice(to.Type(), to.Len(), to.Len())
	reflect.Copy(own, to)
	for i := range min(to.Len(), from.Len()) {
		gained = p.elem.join(own.Index(i), from.Index(i)) || gained
	}
	if gained {
		to.Set(own)
	}
	return gained
}
