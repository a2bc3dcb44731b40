package openapi

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apiserver/catalog"
)

// part is what one group version adds to the version 2 document, which is joined of parts: when a
// kind changes, the part of its group version alone is made again. Made on first need for each
// format, and kept compressed.
type part struct {
	hash     string // of what it is made from
	describe func() (entries, error)

	mu     sync.Mutex
	packed map[bool]packed // by whether it is protobuf
}

// packed is a part's entries in one format.
type packed struct{ paths, definitions []byte }

func newPart(hash string, describe func() (entries, error)) *part {
	return &part{hash: hash, describe: describe, packed: map[bool]packed{}}
}

// get gives the entries in a format.
func (p *part) get(protobuf bool) (packed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done, ok := p.packed[protobuf]; ok {
		return done, nil
	}
	e, err := p.describe()
	if err != nil {
		return packed{}, err
	}
	done, err := e.pack(protobuf)
	if err == nil {
		p.packed[protobuf] = done
	}
	return done, err
}

// pack compresses entries that are JSON in a format.
func (e entries) pack(protobuf bool) (done packed, err error) {
	if protobuf {
		if e, err = e.protobuf(); err != nil {
			return done, err
		}
	}
	if done.paths, err = pack(e.paths); err != nil {
		return done, err
	}
	done.definitions, err = pack(e.definitions)
	return done, err
}

// part describes a group version. What the general part defines it leaves out.
func (v version) part(hash string) *part {
	return newPart(hash, func() (entries, error) {
		p := newPaths(newModels(false), v.GroupVersion)
		for _, k := range v.kinds {
			p.kind(k)
		}
		p.models.finish()
		for name := range general() {
			delete(p.models.definitions, name)
		}
		return newEntries(p.items, p.models.definitions)
	})
}

// generalPart describes the paths that belong to no group version, and the types that each has.
func generalPart(all []version) *part {
	var about strings.Builder
	for _, v := range all {
		fmt.Fprintln(&about, v.GroupVersion, v.stores())
	}
	return newPart(hashOf(program()+about.String()), func() (entries, error) {
		p := emptyPaths(newModels(false))
		for _, pg := range pages(all) {
			pg.add(p)
		}
		p.models.general()
		for _, v := range all {
			if !v.stores() {
				continue
			}
			for _, t := range []reflect.Type{reflect.TypeFor[metav1.DeleteOptions](), reflect.TypeFor[metav1.WatchEvent]()} {
				p.models.tag(t, v.WithKind(t.Name()))
			}
		}
		p.models.finish()
		return newEntries(p.items, p.models.definitions)
	})
}

// stores says that there are objects of the group version, not only requests.
func (v version) stores() bool {
	for _, k := range v.kinds {
		if k.Virtual == nil {
			return true
		}
	}
	return false
}

// general defines the types that every group version with objects refers to.
func (m *models) general() {
	for _, t := range []reflect.Type{
		reflect.TypeFor[metav1.ObjectMeta](), reflect.TypeFor[metav1.ListMeta](), reflect.TypeFor[metav1.Status](),
		reflect.TypeFor[metav1.DeleteOptions](), reflect.TypeFor[metav1.WatchEvent](), reflect.TypeFor[metav1.Patch](),
		reflect.TypeFor[metav1.APIResourceList](),
	} {
		m.add(t)
	}
}

// general are the names of these types and those they refer to.
var general = sync.OnceValue(func() map[string]bool {
	m := newModels(false)
	m.general()
	names := map[string]bool{}
	for name := range m.definitions {
		names[name] = true
	}
	return names
})

// join writes the version 2 document of the parts, and of what other servers say of theirs. Where
// several have a definition of one name, the first stays.
func join(w io.Writer, protobuf bool, parts []*part, remote []catalog.Remote) error {
	var all []packed
	for _, p := range parts {
		one, err := p.get(protobuf)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	for i := range remote {
		if one, ok := remotePart(&remote[i], protobuf); ok {
			all = append(all, one)
		}
	}
	if protobuf {
		return joinProtobuf(w, all)
	}
	return joinJSON(w, all)
}

// frame is the document without paths and definitions.
func frame() *spec.Swagger {
	doc := &spec.Swagger{SwaggerProps: spec.SwaggerProps{Swagger: "2.0", Info: info()}}
	scheme, requirement := security()
	doc.SecurityDefinitions = spec.SecurityDefinitions{"BearerToken": scheme}
	doc.Security = requirement
	return doc
}

func joinJSON(w io.Writer, all []packed) error {
	raw, err := json.Marshal(frame())
	if err != nil {
		return fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(raw, &outer); err != nil {
		return fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	delete(outer, "paths")
	if raw, err = json.Marshal(outer); err != nil {
		return fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	if _, err := w.Write(raw[:len(raw)-1]); err != nil {
		return err
	}
	for _, section := range []string{"paths", "definitions"} {
		separator := `,"` + section + `":{`
		err := distinct(all, section == "definitions", func(body []byte) error {
			if _, err := io.WriteString(w, separator); err != nil {
				return err
			}
			separator = ","
			_, err := w.Write(body)
			return err
		})
		if err != nil {
			return err
		}
		if separator != "," { // there are none
			if _, err := io.WriteString(w, separator); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, "}"); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "}")
	return err
}

func joinProtobuf(w io.Writer, all []packed) error {
	doc := frame()
	doc.Paths = &spec.Paths{}
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	message, err := openapiv2.ParseDocument(raw)
	if err != nil {
		return fmt.Errorf("convert OpenAPI v2 to protobuf: %w", err)
	}
	if raw, err = proto.Marshal(message); err != nil {
		return fmt.Errorf("encode OpenAPI v2 as protobuf: %w", err)
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	for _, definitions := range []bool{false, true} {
		err := distinct(all, definitions, func(body []byte) error {
			_, err := w.Write(body)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// distinct gives the paths or definitions of all parts to f, of each name the first.
func distinct(all []packed, definitions bool, f func([]byte) error) error {
	seen := map[string]bool{}
	for _, one := range all {
		list := one.paths
		if definitions {
			list = one.definitions
		}
		err := unpack(list, func(name string, body []byte) error {
			if seen[name] {
				return nil
			}
			seen[name] = true
			return f(body)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
