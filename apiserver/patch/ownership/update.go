package ownership

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// maxUpdaters is how many managers an object has beside those that apply; of more the oldest are put together.
const maxUpdaters = 10

// Write is one write of an object by other means than apply.
type Write struct {
	Live, Object api.Object // Live is nil for a create
	Manager      string
	Subresource  string   // "" for the object itself
	Ignored      []string // the fields that this write does not change, such as "spec" and "metadata.labels"
	Reset        bool     // the client asks to forget all managers
}

// Update gives the managedFields of the object after a write; neither object is changed, but the entries may
// share their contents. ok is false where the library must be asked.
func (p *Plan) Update(write Write) (entries []metav1.ManagedFieldsEntry, ok bool) {
	l, r := p.empty, reflect.ValueOf(write.Object).Elem()
	var live []metav1.ManagedFieldsEntry
	if write.Live != nil {
		l, live = reflect.ValueOf(write.Live).Elem(), write.Live.GetManagedFields()
	}
	if l.Type() != p.typ || r.Type() != p.typ {
		return nil, false
	}
	base := live
	if write.Subresource == "" {
		if sent := write.Object.GetManagedFields(); len(sent) > 0 {
			base = sent
		} else if write.Reset {
			base = nil
		}
	}
	if len(base) == 0 && write.Live != nil && write.Live.GetUID() != "" {
		return nil, true // it was never tracked
	}
	w := walkers.Get().(*walker)
	defer w.release()
	w.fieldsBut(write.Ignored, "", p.root.fields, l, r)
	if w.odd {
		return nil, false
	}
	w.trusted = slices.EqualFunc(base, live, p.kept)
	if len(w.tree) == 0 && w.trusted && slices.IsSortedFunc(base, order) {
		return base, true
	}
	return p.entries(base, w, write)
}

// entries applies what w found to each of the entries in base.
func (p *Plan) entries(base []metav1.ManagedFieldsEntry, w *walker, write Write) ([]metav1.ManagedFieldsEntry, bool) {
	self := metav1.ManagedFieldsEntry{
		Manager: cmp.Or(write.Manager, "unknown"), Operation: metav1.ManagedFieldsOperationUpdate,
		APIVersion: p.version, FieldsType: "FieldsV1", Subresource: write.Subresource,
	}
	writes := slices.ContainsFunc(w.tree, func(n node) bool { return n.mark&written != 0 })
	out := make([]metav1.ManagedFieldsEntry, 0, len(base)+1)
	updaters := 0
	for i := range base {
		e := base[i]
		if !p.usual(&e) || slices.ContainsFunc(base[:i], func(o metav1.ManagedFieldsEntry) bool { return sameManager(&o, &e) }) {
			return nil, false
		}
		mine := writes && sameManager(&e, &self)
		fields, ok := p.merged(e.FieldsV1, w, mine)
		switch {
		case !ok:
			return nil, false
		case mine:
			e.Time, writes = now(), false
		case fields == nil:
			continue
		}
		e.FieldsV1 = fields
		out = append(out, e)
	}
	if writes {
		self.FieldsV1, _ = p.merged(nil, w, true)
		self.Time = now()
		out = append(out, self)
	}
	for i := range out {
		if out[i].Operation == metav1.ManagedFieldsOperationUpdate {
			updaters++
		}
	}
	if len(out) == 0 {
		return nil, true
	}
	slices.SortFunc(out, order)
	return out, updaters <= maxUpdaters
}

func now() *metav1.Time { return &metav1.Time{Time: time.Now().UTC()} }

// usual says that an entry is one that is understood here.
func (p *Plan) usual(e *metav1.ManagedFieldsEntry) bool {
	return (e.Operation == metav1.ManagedFieldsOperationUpdate || e.Operation == metav1.ManagedFieldsOperationApply) &&
		e.APIVersion == p.version && e.FieldsType == "FieldsV1" && utf8.ValidString(e.Manager) && utf8.ValidString(e.Subresource)
}

// merged gives the fields of an entry after the change that w found, nil for none.
func (p *Plan) merged(before *metav1.FieldsV1, w *walker, writer bool) (*metav1.FieldsV1, bool) {
	raw := "{}"
	if before != nil {
		if w.trusted && !writer && w.apart(before.GetRawBytes()) {
			return before, true
		}
		raw = before.GetRawString()
	}
	tree, ok := p.root.parse(raw)
	if !ok {
		return nil, false
	}
	m := merger{writer: writer, out: append(w.text[:0], '{')}
	m.merge(tree, w.tree)
	m.out = append(m.out, '}')
	w.text = m.out
	switch string(m.out) {
	case "{}":
		return nil, true
	case raw:
		return before, true
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(m.out) // a copy
	return fields, true
}

// apart says that none of the few paths that changed is in an entry, from the text alone: the last
// element of a path that is there would be in it.
func (w *walker) apart(entry []byte) bool {
	const few = 16
	if len(w.tree) > few || len(entry) <= len("{}") {
		return false
	}
	for _, n := range w.tree {
		if n.mark != 0 && bytes.Contains(entry, []byte(n.elem)) {
			return false
		}
	}
	return true
}

// sameManager says that two entries are those of one manager. One that applies is the same in all versions.
func sameManager(a, b *metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.Subresource == b.Subresource &&
		(a.APIVersion == b.APIVersion || a.Operation == metav1.ManagedFieldsOperationApply)
}

// kept says that an entry the client sent is the one it got.
func (p *Plan) kept(a, b metav1.ManagedFieldsEntry) bool {
	return p.usual(&a) && sameManager(&a, &b) && a.APIVersion == b.APIVersion && a.FieldsType == b.FieldsType &&
		a.Time.Equal(b.Time) && bytes.Equal(a.FieldsV1.GetRawBytes(), b.FieldsV1.GetRawBytes())
}

// order is that of the entries in an object.
func order(a, b metav1.ManagedFieldsEntry) int {
	return cmp.Or(
		strings.Compare(string(a.Operation), string(b.Operation)), cmp.Compare(seconds(a.Time), seconds(b.Time)),
		strings.Compare(a.Manager, b.Manager), strings.Compare(a.APIVersion, b.APIVersion), strings.Compare(a.Subresource, b.Subresource))
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}
