package apiserver

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/store"
)

func (r *request) get() error {
	minimum, err := r.revisionAsked()
	if err != nil {
		return err
	}
	item, err := r.kind.collection.Get(r.r.Context(), r.namespace, r.name, minimum)
	if err != nil {
		return err
	}
	return r.respondItem(http.StatusOK, item)
}

// page is the part of a collection that a list answers.
type page struct {
	items     []*store.Item
	revision  int64
	token     string // continue
	remaining *int64
}

func (r *request) list() error {
	if err := r.checkListOptions(); err != nil {
		return err
	}
	p, err := r.page()
	if err != nil {
		return err
	}
	r.auditPage(p)
	return r.answerPage(p)
}

// answerPage answers in the form that the client likes.
func (r *request) answerPage(p *page) error {
	switch {
	case r.out.as == "Table":
		return r.tablePage(p)
	case r.out.as != "":
		return r.partialPage(p)
	}
	return r.objectPage(p)
}

// objectPage answers with the objects themselves.
func (r *request) objectPage(p *page) error {
	switch r.out.media {
	case typeProtobuf:
		return r.protobufPage(p)
	case typeCBOR:
		return r.cborPage(p)
	}
	return r.jsonPage(p)
}

// position is where a paged list goes on, as the token in "continue" carries it.
type position struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

const positionVersion = "meta.k8s.io/v1"

func (p position) token() string {
	raw, _ := json.Marshal(p) // texts and a number always encode
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parsePosition(token string) (position, error) {
	var p position
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(token, "="))
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	switch {
	case err != nil:
	case p.Version != positionVersion:
		err = fmt.Errorf("server does not recognize this encoded version %s", p.Version)
	case p.Start == "" || strings.Contains(p.Start, ".."):
		err = errors.New("the start is not within the list")
	default:
		return p, nil
	}
	return p, apierrors.NewBadRequest("invalid continue token: continue key is not valid: " + err.Error())
}

// page selects what the list answers, from one consistent state.
func (r *request) page() (*page, error) {
	limit, err := r.limit()
	if err != nil {
		return nil, err
	}
	sel, err := r.selected()
	if err != nil {
		return nil, err
	}
	snapshot, after, err := r.snapshot()
	if err != nil {
		return nil, err
	}
	p := &page{revision: snapshot.Revision()}
	match, err := r.matcher(sel, snapshot, after)
	if err != nil {
		return nil, err
	}
	last, more := after, false
	snapshot.Ascend(r.namespace, after, func(item *store.Item) bool {
		if match != nil && !match(item) {
			return true
		}
		if limit > 0 && int64(len(p.items)) == limit {
			more = true
			return false
		}
		p.items = append(p.items, item)
		last = item.Path()
		return true
	})
	if more {
		p.token = position{positionVersion, snapshot.Revision(), last}.token()
		if sel.everything() {
			n := int64(snapshot.Remaining(r.namespace, last))
			p.remaining = &n
		}
	}
	return p, r.show(p.items)
}

// matcher is filter on the items of a snapshot. What must be converted to be looked at is
// converted before, at once.
func (r *request) matcher(sel *selection, snapshot *store.Snapshot, after string) (func(*store.Item) bool, error) {
	if !r.versioned(sel) {
		match := r.filter(sel)
		if match == nil {
			return nil, nil
		}
		return func(item *store.Item) bool { return match(item.Object()) }, nil
	}
	var all []*store.Item
	snapshot.Ascend(r.namespace, after, func(item *store.Item) bool {
		all = append(all, item)
		return true
	})
	if err := r.show(all); err != nil {
		return nil, err
	}
	return func(item *store.Item) bool {
		obj, err := r.view(item) // is ready
		return err == nil && obj != nil && sel.match(r.kind.Kind, obj)
	}, nil
}

func (r *request) limit() (int64, error) {
	v := r.query.Get("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(err.Error())
	}
	return max(n, 0), nil
}

// snapshot finds the state that a list reads, and after which path it begins.
func (r *request) snapshot() (*store.Snapshot, string, error) {
	ctx, c := r.r.Context(), r.kind.collection
	if token := r.query.Get("continue"); token != "" {
		if v := r.query.Get("resourceVersion"); v != "" && v != "0" {
			return nil, "", apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		p, err := parsePosition(token)
		if err != nil {
			return nil, "", err
		}
		if p.Revision < 0 { // a list that has gone on from a state that is gone
			s, err := c.Snapshot(ctx, store.Latest)
			return s, p.Start, err
		}
		s, err := c.SnapshotAt(ctx, p.Revision)
		if errors.Is(err, store.ErrCompacted) {
			return nil, "", expired(p)
		}
		return s, p.Start, err
	}
	minimum, err := r.revisionAsked()
	if err != nil {
		return nil, "", err
	}
	limited := r.query.Get("limit") != "" && r.query.Get("limit") != "0"
	match := r.query.Get("resourceVersionMatch")
	exact := match == string(metav1.ResourceVersionMatchExact) || match == "" && limited && minimum > 0
	if exact {
		s, err := c.SnapshotAt(ctx, minimum)
		if errors.Is(err, store.ErrCompacted) {
			err = apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided list is too old: %d", minimum))
		}
		return s, "", err
	}
	s, err := c.Snapshot(ctx, minimum)
	return s, "", err
}

// expired refuses to go on with a state that is gone, and offers a token to go on with
// what is there now.
func expired(p position) error {
	p.Revision = -1
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = p.token()
	return err
}

func (p *page) meta() metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.FormatInt(p.revision, 10), Continue: p.token, RemainingItemCount: p.remaining}
}

// stream begins an answer that is written in parts, compressed if the client likes and
// it is long.
func (r *request) stream(size int) (w io.Writer, done func()) {
	h := r.w.Header()
	h.Set("Content-Type", r.out.contentType(false))
	h.Set("Cache-Control", "no-cache, private")
	r.started = true
	if size >= minGzip && r.gzipped() {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		return compress(r.w)
	}
	return r.w, func() {}
}

// chunk is how much is gathered before it is written.
const chunk = 64 * 1024

// size is about what the items take in JSON.
func (p *page) size() int {
	size := 0
	for _, i := range p.items {
		size += i.Size()
	}
	return size
}

// write writes a list in chunks: head, the items as add appends them, and end.
func (p *page) write(w io.Writer, head []byte, add func(buf []byte, n int, item *store.Item) ([]byte, error), end []byte) error {
	buf := append(make([]byte, 0, chunk+8192), head...)
	var err error
	for n, item := range p.items {
		if buf, err = add(buf, n, item); err != nil {
			return err
		}
		if len(buf) >= chunk {
			if _, err := w.Write(buf); err != nil {
				return nil // a client that went away
			}
			buf = buf[:0]
		}
	}
	_, _ = w.Write(append(buf, end...))
	return nil
}

func (r *request) jsonPage(p *page) error {
	if r.out.media == typeYAML || r.pretty() {
		return r.wholePage(p)
	}
	w, done := r.stream(p.size())
	defer done()
	return r.writeJSONPage(w, p)
}

// writeJSONPage writes a typed list: items are without kind and apiVersion.
func (r *request) writeJSONPage(w io.Writer, p *page) error {
	meta, err := json.Marshal(p.meta())
	if err != nil {
		return err
	}
	version, _ := r.kind.ToAPIVersionAndKind()
	header := r.kind.jsonHeader()
	head := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, r.kind.ListKind().Kind, version, meta)
	return p.write(w, head, func(buf []byte, n int, item *store.Item) ([]byte, error) {
		if n > 0 {
			buf = append(buf, ',')
		}
		at := len(buf)
		buf, err := r.appendJSON(buf, item)
		if err == nil && r.kind.Custom == nil { // whose lists are of no type, so that each item has its own
			buf = slices.Replace(buf, at, at+len(header), '{')
		}
		return buf, err
	}, []byte("]}\n"))
}

// wholePage is for people: indented, or YAML.
func (r *request) wholePage(p *page) error {
	var b strings.Builder
	if err := r.writeJSONPage(&b, p); err != nil {
		return err
	}
	raw := []byte(b.String())
	if r.out.media == typeYAML {
		var err error
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return err
		}
	}
	return r.respond(http.StatusOK, raw)
}

// protobufPage writes the list's envelope around the items' own messages.
func (r *request) protobufPage(p *page) error {
	if r.kind.FromStored != nil {
		return r.convertedPage(p)
	}
	meta := p.meta()
	head, err := meta.Marshal()
	if err != nil {
		return err
	}
	body := appendBytes(nil, 1, head)
	size := len(body)
	for _, item := range p.items {
		n, err := item.MessageSize()
		if err != nil {
			return err
		}
		size += 1 + protowire.SizeVarint(uint64(n)) + n
	}
	w, done := r.stream(size)
	defer done()
	return p.write(w, append(appendEnvelope(nil, r.kind.ListKind(), size), body...), func(buf []byte, _ int, item *store.Item) ([]byte, error) {
		n, err := item.MessageSize()
		if err != nil {
			return buf, err
		}
		return item.AppendMessage(binary.AppendUvarint(append(buf, 2<<3|2), uint64(n)))
	}, envelopeEnd)
}

// convertedPage is protobufPage for a version that is not stored.
func (r *request) convertedPage(p *page) error {
	meta := p.meta()
	head, err := meta.Marshal()
	if err != nil {
		return err
	}
	body := appendBytes(nil, 1, head)
	for _, item := range p.items {
		obj, err := r.view(item)
		if err != nil {
			return err
		}
		m, ok := obj.(protoMessage)
		if !ok {
			return fmt.Errorf("%s has no protobuf form", r.kind.GroupVersionKind.Kind)
		}
		raw := make([]byte, m.Size())
		if _, err := m.MarshalToSizedBuffer(raw); err != nil {
			return err
		}
		body = appendBytes(body, 2, raw)
	}
	out := append(appendEnvelope(nil, r.kind.ListKind(), len(body)), body...)
	return r.respond(http.StatusOK, append(out, envelopeEnd...))
}

func (r *request) tablePage(p *page) error {
	t, err := r.table(p.items, true, strconv.FormatInt(p.revision, 10))
	if err != nil {
		return err
	}
	t.Continue, t.RemainingItemCount = p.token, p.remaining
	return r.respondObject(http.StatusOK, t)
}

func (r *request) partialPage(p *page) error {
	list := r.partialList(p.meta(), len(p.items))
	for _, item := range p.items {
		obj, err := r.view(item)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, *partial(obj, r.out.version))
	}
	return r.respondObject(http.StatusOK, list)
}

// partialList is a list of the metadata of n objects.
func (r *request) partialList(meta metav1.ListMeta, n int) *metav1.PartialObjectMetadataList {
	return &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/" + r.out.version},
		ListMeta: meta, Items: make([]metav1.PartialObjectMetadata, 0, n),
	}
}
