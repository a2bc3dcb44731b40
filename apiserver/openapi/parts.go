package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apiserver/catalog"
)

// part is what some group versions add to the version 2 document, which is joined of parts: those
// built in are one, each other group version is one of its own, so that when a custom resource
// changes that alone is made again. Made on first need for each format, and kept compressed.
type part struct {
	hash     string // of what it is made from
	describe func() (entries, error)

	mu   sync.Mutex
	done map[bool]*encoded // by whether it is protobuf
}

func newPart(hash string, describe func() (entries, error)) *part {
	return &part{hash: hash, describe: describe, done: map[bool]*encoded{}}
}

// get gives the entries in a format.
func (p *part) get(protobuf bool) (*encoded, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done, ok := p.done[protobuf]; ok {
		return done, nil
	}
	e, err := p.describe()
	if err != nil {
		return nil, err
	}
	done, err := e.encode(protobuf)
	if err == nil {
		p.done[protobuf] = done
	}
	return done, err
}

// parts divides group versions, whose hashes are given too.
func parts(all []version, hashes []string) []*part {
	list := []*part{generalPart(all)}
	var builtin []version
	var sums strings.Builder
	for i, v := range all {
		if slices.ContainsFunc(v.kinds, custom) {
			list = append(list, versionsPart(hashes[i], v))
			continue
		}
		builtin = append(builtin, v)
		fmt.Fprintln(&sums, hashes[i])
	}
	return append(list, versionsPart(hashOf(sums.String()), builtin...))
}

// versionsPart describes group versions. What the general part defines it leaves out.
func versionsPart(hash string, all ...version) *part {
	return newPart(hash, func() (entries, error) {
		var whole entries
		m := newModels(false)
		done := maps.Clone(general())
		for _, v := range all {
			p := newPaths(m, v)
			for _, k := range v.kinds {
				p.kind(k)
			}
			m.finish()
			fresh := spec.Definitions{}
			for name, s := range m.definitions {
				if !done[name] {
					fresh[name], done[name] = s, true
				}
				m.definitions[name] = spec.Schema{} // known; encoded, it need not be kept
			}
			clear(m.kinds)
			e, err := newEntries(p.items, fresh)
			if err != nil {
				return entries{}, err
			}
			whole.paths = append(whole.paths, e.paths...)
			whole.definitions = append(whole.definitions, e.definitions...)
		}
		return whole, nil
	})
}

// generalPart describes the paths that belong to no group version, and the types that each has.
func generalPart(all []version) *part {
	var about strings.Builder
	for _, v := range all {
		fmt.Fprintln(&about, v.GroupVersion, v.stores(), v.cbor)
	}
	return newPart(hashOf(program()+about.String()), func() (entries, error) {
		p := emptyPaths(newModels(false), len(all) > 0 && all[0].cbor)
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

// join makes the version 2 document, as gzip, of the parts and of what other servers say of theirs.
// Where several have a definition of one name, the first stays.
func join(protobuf bool, parts []*part, remote []catalog.Remote) ([]byte, error) {
	list := slices.Clone(parts)
	for i := range remote {
		list = append(list, remotePart(&remote[i]))
	}
	names := map[string]bool{}
	var all []*encoded
	for i, p := range list {
		one, err := p.get(protobuf)
		if err == nil && slices.ContainsFunc(one.names, func(name string) bool { return names[name] }) {
			one, err = p.rest(protobuf, names)
		}
		if err != nil && i >= len(parts) {
			continue // a server that does not answer, or not in a way that can be read, is left out
		}
		if err != nil {
			return nil, err
		}
		for _, name := range one.names {
			names[name] = true
		}
		all = append(all, one)
	}
	if protobuf {
		return joinProtobuf(all)
	}
	return joinJSON(all)
}

// rest is the part without definitions of these names.
func (p *part) rest(protobuf bool, names map[string]bool) (*encoded, error) {
	e, err := p.describe()
	if err != nil {
		return nil, err
	}
	return e.without(names).encode(protobuf)
}

// frame is the document without paths and definitions.
func frame() *spec.Swagger {
	doc := &spec.Swagger{SwaggerProps: spec.SwaggerProps{Swagger: "2.0", Info: info()}}
	scheme, requirement := security()
	doc.SecurityDefinitions = spec.SecurityDefinitions{"BearerToken": scheme}
	doc.Security = requirement
	return doc
}

func joinJSON(all []*encoded) ([]byte, error) {
	raw, err := json.Marshal(frame())
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(raw, &outer); err != nil {
		return nil, fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	delete(outer, "paths")
	if raw, err = json.Marshal(outer); err != nil {
		return nil, fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	blocks := []block{stored(string(raw[:len(raw)-1]) + `,"paths":{`)}
	blocks = append(blocks, listed(all, func(e *encoded) block { return e.paths })...)
	blocks = append(blocks, stored(`},"definitions":{`))
	blocks = append(blocks, listed(all, func(e *encoded) block { return e.definitions })...)
	return gzipped(append(blocks, stored("}}"))), nil
}

// listed are one block of each, with commas between.
func listed(all []*encoded, of func(*encoded) block) []block {
	var list []block
	for _, e := range all {
		b := of(e)
		if b.size == 0 {
			continue
		}
		if len(list) > 0 {
			list = append(list, stored(","))
		}
		list = append(list, b)
	}
	return list
}

func joinProtobuf(all []*encoded) ([]byte, error) {
	doc := frame()
	doc.Paths = &spec.Paths{}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI v2: %w", err)
	}
	message, err := openapiv2.ParseDocument(raw)
	if err != nil {
		return nil, fmt.Errorf("convert OpenAPI v2 to protobuf: %w", err)
	}
	if raw, err = proto.Marshal(message); err != nil {
		return nil, fmt.Errorf("encode OpenAPI v2 as protobuf: %w", err)
	}
	blocks := []block{stored(string(raw))}
	for _, e := range all {
		blocks = append(blocks, e.paths, e.definitions)
	}
	return gzipped(blocks), nil
}
