package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// entry is one path or definition of a version 2 document, encoded so that a document is
// made by writing entries one after the other: in JSON a member of the object that holds them,
// in protobuf a document with nothing else in it.
type entry struct {
	name string
	body []byte
}

// entries are those of one part of the document.
type entries struct{ paths, definitions []entry }

// newEntries encodes paths and definitions as JSON.
func newEntries(paths map[string]spec.PathItem, definitions spec.Definitions) (entries, error) {
	var e entries
	var err error
	if e.paths, err = members(paths); err != nil {
		return e, err
	}
	e.definitions, err = members(definitions)
	return e, err
}

func members[T json.Marshaler](all map[string]T) ([]entry, error) {
	list := make([]entry, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, fmt.Errorf("encode the name %q: %w", name, err)
		}
		body, err := all[name].MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		list = append(list, entry{name, slices.Concat(key, []byte{':'}, body)})
	}
	return list, nil
}

// chunk bounds how much JSON is turned into protobuf at once: its tree takes 40 times as much.
const chunk = 128 << 10

// protobuf encodes the entries, which are JSON, as protobuf.
func (e entries) protobuf() (entries, error) {
	var out entries
	err := chunked(e.paths, func(part []entry) error {
		doc, err := parse(`"paths":{`, part, `}`)
		for _, p := range doc.GetPaths().GetPath() {
			err = errors.Join(err, out.add(&out.paths, p.GetName(), &openapiv2.Document{Paths: &openapiv2.Paths{Path: []*openapiv2.NamedPathItem{p}}}))
		}
		return err
	})
	if err != nil {
		return out, err
	}
	return out, chunked(e.definitions, func(part []entry) error {
		doc, err := parse(`"paths":{},"definitions":{`, part, `}`)
		for _, d := range doc.GetDefinitions().GetAdditionalProperties() {
			only := &openapiv2.Definitions{AdditionalProperties: []*openapiv2.NamedSchema{d}}
			err = errors.Join(err, out.add(&out.definitions, d.GetName(), &openapiv2.Document{Definitions: only}))
		}
		return err
	})
}

func (e entries) add(to *[]entry, name string, doc *openapiv2.Document) error {
	body, err := proto.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode %s as protobuf: %w", name, err)
	}
	*to = append(*to, entry{name, body})
	return nil
}

// parse reads a document that has some entries alone.
func parse(before string, part []entry, after string) (*openapiv2.Document, error) {
	var b bytes.Buffer
	b.WriteString(`{"swagger":"2.0","info":{"title":"","version":""},` + before)
	for i, e := range part {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.body)
	}
	b.WriteString(after + "}")
	doc, err := openapiv2.ParseDocument(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("convert to protobuf: %w", err)
	}
	return doc, nil
}

func chunked(list []entry, f func([]entry) error) error {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && size < chunk {
			size += len(list[n].body)
			n++
		}
		if err := f(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// without leaves out the definitions of some names.
func (e entries) without(names map[string]bool) entries {
	e.definitions = slices.DeleteFunc(slices.Clone(e.definitions), func(d entry) bool { return names[d.name] })
	return e
}

// encoded are a part's entries in one format, compressed, and the names of its definitions.
type encoded struct {
	paths, definitions block
	names              []string
}

// encode compresses entries that are JSON in a format.
func (e entries) encode(protobuf bool) (*encoded, error) {
	separator := ","
	if protobuf {
		separator = ""
		var err error
		if e, err = e.protobuf(); err != nil {
			return nil, err
		}
	}
	paths, err := one(e.paths, separator)
	if err != nil {
		return nil, err
	}
	definitions, err := one(e.definitions, separator)
	if err != nil {
		return nil, err
	}
	out := &encoded{paths: paths, definitions: definitions}
	for _, d := range e.definitions {
		out.names = append(out.names, d.name)
	}
	return out, nil
}

// one is a block of a list of entries.
func one(list []entry, separator string) (block, error) {
	return newBlock(func(w io.Writer) error {
		for i, e := range list {
			if i > 0 {
				if _, err := io.WriteString(w, separator); err != nil {
					return fmt.Errorf("compress: %w", err)
				}
			}
			if _, err := w.Write(e.body); err != nil {
				return fmt.Errorf("compress: %w", err)
			}
		}
		return nil
	})
}
