package apiserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/proa-dev/proa/store"
)

// watch streams changes until the client goes, its time is over, or it falls too far
// behind. All events of one wake-up go out in one write.
func (r *request) watch() error {
	if err := r.checkListOptions(); err != nil {
		return err
	}
	opts, err := r.watchOptions()
	if err != nil {
		return err
	}
	limit, err := r.watchLimit()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.r.Context(), limit)
	defer cancel()
	stopGone := context.AfterFunc(r.kind.present, cancel)
	defer stopGone()
	defer r.within(ctx)()
	opts.Slow = cancel // also while a write waits for the client
	w, err := r.kind.collection.Watch(ctx, opts)
	if errors.Is(err, store.ErrCompacted) {
		return r.streamError(tooOld(strconv.FormatInt(opts.Since, 10), r.s.cfg.Store.Revision()))
	}
	if err != nil {
		return err
	}
	defer w.Stop()
	r.beginStream()
	// Until the beginning of its first state is sent, a watch holds a place like a list.
	settled := r.settled
	if opts.InitialEvents {
		late := time.AfterFunc(r.s.cfg.RequestTimeout, cancel)
		defer late.Stop()
		settled = func() { late.Stop(); r.settled() }
	} else {
		settled()
	}
	frames := r.frames(w)
	r.events = r.s.metrics.Watch.Of(r.kind.Resource)
	first := true
	for {
		events, err := w.Next(ctx)
		if err != nil {
			if errors.Is(err, store.ErrCompacted) {
				_ = r.writeEvents(r.errorEvent(tooOld(strconv.FormatInt(opts.Since, 10), r.s.cfg.Store.Revision())))
			}
			return nil // a slow client comes again from where it is, and learns then if that is gone
		}
		if !r.sendEvents(events, frames, first) {
			return nil
		}
		first = false
		r.flush()
		settled()
	}
}

// sendEvents writes a batch in one piece, or in some if it is a long first state; false: the
// client went away, or cannot be told. A watch that waits keeps no memory for what it sends.
func (r *request) sendEvents(events []store.Event, frames *frames, first bool) bool {
	kept := buffers.Get().(*[]byte)
	buf := (*kept)[:0]
	defer func() {
		if cap(buf) <= chunk {
			*kept = buf
		}
		buffers.Put(kept)
	}()
	for i := range events {
		var err error
		had := len(buf)
		if buf, err = r.appendEvent(buf, &events[i], frames, first && i == 0); err != nil {
			r.s.log.Error("encode watch event", "path", r.r.URL.Path, "err", err)
			return false
		}
		r.events.Sent(len(buf) - had)
		if len(buf) >= chunk {
			if _, err := r.w.Write(buf); err != nil {
				return false
			}
			buf = buf[:0]
		}
	}
	_, err := r.w.Write(buf)
	return err == nil
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (r *request) watchOptions() (store.WatchOptions, error) {
	sel, err := r.selected()
	if err != nil {
		return store.WatchOptions{}, err
	}
	since, err := r.revisionAsked()
	if err != nil {
		return store.WatchOptions{}, err
	}
	bookmarks, initial := r.on("allowWatchBookmarks"), r.on("sendInitialEvents")
	return store.WatchOptions{
		Namespace: r.namespace, Name: sel.name, Index: sel.index, Value: sel.value, Filter: r.filter(sel),
		Since: since, InitialEvents: initial, Bookmarks: bookmarks, Patient: true,
	}, nil
}

func (r *request) watchLimit() (time.Duration, error) {
	v := r.query.Get("timeoutSeconds")
	if v == "" || v == "0" {
		return defaultWatch + rand.N(defaultWatch), nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("timeoutSeconds: Invalid value: %q: must be a number of seconds", v))
	}
	return time.Duration(n) * time.Second, nil
}

func (r *request) beginStream() {
	h := r.w.Header()
	h.Set("Content-Type", r.out.contentType(true))
	h.Set("Cache-Control", "no-cache, private")
	r.started = true
	r.w.WriteHeader(http.StatusOK)
	r.flush()
}

func (r *request) flush() {
	if f, ok := r.w.(http.Flusher); ok {
		f.Flush()
	}
}

func (r *request) writeEvents(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	_, err := r.w.Write(raw)
	r.flush()
	return err
}

// streamError answers a watch that cannot begin as clients expect: a stream of one error.
func (r *request) streamError(err error) error {
	r.beginStream()
	_ = r.writeEvents(r.errorEvent(err)) // a client that went away
	return nil
}

func (r *request) errorEvent(err error) []byte {
	raw, encErr := objectBytes(&choice{media: r.out.media}, r.status(err))
	if encErr != nil {
		return nil // a Status always encodes
	}
	return r.frame(nil, watch.Error, raw)
}

var eventNames = [...]watch.EventType{
	store.Added: watch.Added, store.Modified: watch.Modified, store.Deleted: watch.Deleted, store.Bookmark: watch.Bookmark,
}

func (r *request) appendEvent(dst []byte, e *store.Event, frames *frames, first bool) ([]byte, error) {
	if e.Type == store.Bookmark {
		raw, err := r.bookmark(e)
		return r.frame(dst, watch.Bookmark, raw), err
	}
	if r.out.media == typeProtobuf && r.out.as == "" && r.kind.FromStored == nil {
		return frames.append(dst, e)
	}
	if r.out.media == typeJSON && r.out.as == "" {
		dst, err := r.appendJSON(frameJSON(dst, eventNames[e.Type]), e.Item)
		return append(dst, "}\n"...), err
	}
	var raw []byte
	var err error
	if r.out.as == "Table" {
		raw, err = r.tableBytes([]*store.Item{e.Item}, first, "")
	} else {
		raw, err = r.itemBytes(e.Item)
	}
	if err != nil {
		return dst, err
	}
	return r.frame(dst, eventNames[e.Type], raw), nil
}

// bookmark is an object of the watch's kind with nothing but a resourceVersion.
func (r *request) bookmark(e *store.Event) ([]byte, error) {
	meta := metav1.ObjectMeta{ResourceVersion: strconv.FormatInt(e.Revision, 10)}
	if e.InitialEnd {
		meta.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	switch r.out.as {
	case "Table":
		p := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/" + r.out.version}, ObjectMeta: meta}
		raw, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		t, err := r.table(nil, false, meta.ResourceVersion)
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, metav1.TableRow{Cells: []any{}})
		t.Rows[0].Object.Raw = raw
		return objectBytes(&choice{media: r.out.media}, t)
	case "":
		obj := r.kind.New()
		obj.SetResourceVersion(meta.ResourceVersion)
		obj.SetAnnotations(meta.Annotations)
		return objectBytes(&choice{media: r.out.media}, obj)
	}
	p := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/" + r.out.version}, ObjectMeta: meta}
	return objectBytes(&choice{media: r.out.media}, p)
}

// frame puts an encoded object into a watch event: a line of JSON, an item of CBOR, or a length and
// a WatchEvent{1: type, 2: RawExtension{1: raw}}.
func (r *request) frame(dst []byte, kind watch.EventType, raw []byte) []byte {
	switch r.out.media {
	case typeCBOR:
		return frameCBOR(dst, kind, raw)
	case typeJSON:
		dst = frameJSON(dst, kind)
		for len(raw) > 0 && raw[len(raw)-1] == '\n' {
			raw = raw[:len(raw)-1]
		}
		return append(append(dst, raw...), "}\n"...)
	}
	return append(frameProtobuf(dst, kind, len(raw)), raw...)
}

// frameJSON is what comes before an object; a brace and the line's end come after it.
func frameJSON(dst []byte, kind watch.EventType) []byte {
	return append(append(append(dst, `{"type":"`...), kind...), `","object":`...)
}

// frameProtobuf is what comes before an object of so many bytes.
func frameProtobuf(dst []byte, kind watch.EventType, length int) []byte {
	inner := 1 + protowire.SizeVarint(uint64(length)) + length
	size := 2 + len(kind) + 1 + protowire.SizeVarint(uint64(inner)) + inner
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = appendText(dst, 1, string(kind))
	dst = binary.AppendUvarint(append(dst, 2<<3|2), uint64(inner))
	return binary.AppendUvarint(append(dst, 1<<3|2), uint64(length))
}
