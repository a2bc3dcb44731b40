package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// documents holds all documents of one state of the list of kinds.
type documents struct {
	state *catalog.State
	v2    *document
	v3    map[string]*document // api/v1, apis/apps/v1
	parts []*part              // of v2
	index []byte               // what /openapi/v3 answers
	etag  string               // of the index, quoted
}

// place is where the index says that a document is.
type place struct {
	URL string `json:"serverRelativeURL"`
}

// newDocuments lists the documents of a state, taking over from old what stays the same.
func newDocuments(state *catalog.State, cbor bool, old *documents) *documents {
	all := versions(state.Kinds, cbor)
	d := &documents{state: state, v3: map[string]*document{}}
	paths := map[string]place{}
	whole := sha256.New()
	var sums []string
	for _, v := range all {
		name, sum := strings.TrimPrefix(root(v.GroupVersion), "/"), v.hash()
		fmt.Fprintln(whole, name, sum)
		doc := newDocument3(sum, name, v.describe3)
		if old != nil && old.v3[name] != nil && old.v3[name].hash == sum {
			doc = old.v3[name]
		}
		d.v3[name] = doc
		paths[name] = place{doc.withHash()}
		sums = append(sums, sum)
	}
	for _, p := range parts(all, sums) {
		d.parts = append(d.parts, old.keep(p))
	}
	for _, pg := range pages(all) {
		doc := newDocument3(hashOf(fmt.Sprint(program(), " ", pg.name, cbor)), pg.name, func() ([]byte, error) { return pg.describe3(cbor) })
		if old != nil && old.v3[pg.name] != nil {
			doc = old.v3[pg.name]
		}
		d.v3[pg.name] = doc
		paths[pg.name] = place{doc.withHash()}
	}
	for i := range state.Remote {
		r := &state.Remote[i]
		fmt.Fprintln(whole, "remote", r.String(), r.SchemaHash, r.Stale)
		if name, at, ok := remotePlace(r); ok {
			paths[name] = at
		}
	}
	sum := encode(whole)
	d.etag = strconv.Quote(sum)
	d.v2 = newDocument2(sum, func(protobuf bool) ([]byte, error) { return join(protobuf, d.parts, state.Remote) })
	if old != nil && old.v2.hash == sum {
		d.v2 = old.v2
	}
	raw, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil { // cannot be: it holds strings alone
		raw = []byte(`{"paths":{}}`)
	}
	d.index = raw
	return d
}

// keep gives the part of d that is made from the same as p, or else p.
func (d *documents) keep(p *part) *part {
	if d != nil {
		for _, known := range d.parts {
			if known.hash == p.hash {
				return known
			}
		}
	}
	return p
}

// serveIndex answers where the documents of version 3 are.
func (d *documents) serveIndex(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", d.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), d.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(d.index)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(d.index) // fails when the client has gone
	}
}

// hash is over all that the document of a group version is made from: the kinds as far
// as they show in it, and the program, which the Go types are part of.
func (v version) hash() string {
	h := sha256.New()
	fmt.Fprintln(h, program(), v.GroupVersion, v.cbor)
	for _, k := range v.kinds {
		fmt.Fprintln(h, k.Kind, k.Resource.Resource, k.Namespaced, k.HasStatus, k.Scale != nil, k.Virtual != nil, k.Computed != nil,
			api.AnswersDeleted(k.GroupResource()))
		if custom(k) {
			fmt.Fprintln(h, k.ListKind().Kind, slices.Sorted(maps.Keys(k.Fields)))
			fmt.Fprintf(h, "schema %q\n", k.Schema)
		} else {
			fmt.Fprintln(h, "type", k.Type.PkgPath(), k.Type.Name())
		}
		for _, u := range k.Updates {
			fmt.Fprintln(h, "update", u.Name, u.NoGet, u.NoPatch)
		}
		for _, a := range k.Actions {
			fmt.Fprintln(h, "action", a.Name, a.Group, a.Version, a.Kind)
		}
		for _, c := range k.Connects {
			fmt.Fprintln(h, "connect", c.Name, c.Kind, c.New != nil)
		}
	}
	return encode(h)
}

func hashOf(s string) string {
	h := sha256.New()
	fmt.Fprint(h, s)
	return encode(h)
}

func encode(h hash.Hash) string { return strings.ToUpper(hex.EncodeToString(h.Sum(nil))) }

// program tells builds of the program apart: by the commit it was built from, and when
// that is not known or does not say all, by the file's size and time.
var program = sync.OnceValue(func() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return executable()
	}
	commit, modified := "", true
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value != "false"
		}
	}
	if commit == "" || modified {
		return build.String() + executable()
	}
	return build.String()
})

func executable() string {
	path, err := os.Executable()
	if err != nil {
		return strconv.Itoa(os.Getpid()) // unknown: valid for this process alone
	}
	file, err := os.Stat(path)
	if err != nil {
		return strconv.Itoa(os.Getpid())
	}
	return fmt.Sprint(file.Size(), file.ModTime().UnixNano())
}
