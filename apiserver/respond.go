package apiserver

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// respondItem answers with a stored object.
func (r *request) respondItem(code int, item *store.Item) error {
	raw, err := r.itemBytes(item)
	if err != nil {
		return err
	}
	if r.record.WantsResponse() {
		if asJSON, err := r.json(item); err == nil {
			r.record.AnsweredWith(asJSON)
		}
	}
	return r.respond(code, raw)
}

// respondObject answers with an object that is not stored.
func (r *request) respondObject(code int, obj runtime.Object) error {
	out := r.out
	if out.media == typeProtobuf {
		if _, ok := obj.(protoMessage); !ok {
			out = &choice{media: typeJSON}
			r.out = out
		}
	}
	raw, err := objectBytes(out, obj)
	if err != nil {
		return err
	}
	r.record.Answered(obj)
	return r.respond(code, raw)
}

// minGzip is the least length that is worth compressing (upstream's).
const minGzip = 128 * 1024

func (r *request) respond(code int, raw []byte) error {
	if r.out.media == typeJSON {
		if r.pretty() {
			raw = prettyJSON(raw)
		}
		if len(raw) == 0 || raw[len(raw)-1] != '\n' {
			raw = append(raw[:len(raw):len(raw)], '\n')
		}
	}
	h := r.w.Header()
	h.Set("Content-Type", r.out.contentType(false))
	h.Set("Cache-Control", "no-cache, private")
	r.started = true
	if len(raw) >= minGzip && r.gzipped() {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		r.w.WriteHeader(code)
		z, done := compress(r.w)
		_, _ = z.Write(raw) // a client that went away
		done()
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	r.w.WriteHeader(code)
	_, _ = r.w.Write(raw) // a client that went away
	return nil
}

// compressors are reused: a new one costs 800 KB.
var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return z
}}

// compress wraps w; done writes the end.
func compress(w io.Writer) (z *gzip.Writer, done func()) {
	z = compressors.Get().(*gzip.Writer)
	z.Reset(w)
	return z, func() {
		_ = z.Close() // a client that went away
		z.Reset(nil)
		compressors.Put(z)
	}
}

func (r *request) gzipped() bool {
	for e := range strings.SplitSeq(r.r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(e), ";"); name == "gzip" {
			return true
		}
	}
	return false
}

func (r *request) pretty() bool {
	if r.query.Has("pretty") {
		return r.on("pretty")
	}
	agent := r.r.UserAgent()
	return r.out.pretty || strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// fail answers with the Status of an error.
func (r *request) fail(err error) {
	if r.started || r.sent.code != 0 {
		return // nothing can be taken back
	}
	status := r.status(err)
	out := r.out
	if out == nil || out.as != "" {
		out = &choice{media: typeJSON}
		if c, nerr := (offer{protobuf: true, cbor: r.s.cfg.CBOR}).choose(r.r.Header.Get("Accept")); nerr == nil {
			out.media = c.media
		}
	}
	r.out = &choice{media: out.media}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		r.w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	if r.refused != nil {
		r.record.Failed(r.refused)
	}
	if err := r.respondObject(int(status.Code), status); err != nil {
		r.s.log.Error("answer with an error", "err", err)
	}
}

// status gives any error its Status: the one place where the store's errors get a code.
func (r *request) status(err error) *metav1.Status {
	var known apierrors.APIStatus
	gr := r.groupResource()
	switch {
	case errors.As(err, &known):
		s := known.Status()
		s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		return &s
	case errors.Is(err, store.ErrNotFound):
		return r.status(apierrors.NewNotFound(gr, r.name))
	case errors.Is(err, store.ErrClosed) && r.kind != nil && r.kind.Custom != nil: // its definition went meanwhile
		return r.status(apierrors.NewGenericServerResponse(http.StatusNotFound, r.verb, gr, "", "", 0, true))
	case errors.Is(err, store.ErrExists):
		return r.status(apierrors.NewAlreadyExists(gr, r.name))
	case errors.Is(err, store.ErrCompacted), errors.Is(err, store.ErrSlow):
		return r.status(tooOld(r.query.Get("resourceVersion"), r.s.cfg.Store.Revision()))
	case errors.Is(err, store.ErrFuture):
		return r.status(tooNew(r.query.Get("resourceVersion"), r.s.cfg.Store.Revision()))
	case errors.Is(err, store.ErrTooLarge):
		return r.status(apierrors.NewRequestEntityTooLargeError("etcdserver: request is too large"))
	case errors.Is(err, store.ErrFull):
		return r.status(apierrors.NewInternalError(err))
	case errors.Is(err, store.ErrName):
		return r.status(apierrors.NewBadRequest(err.Error()))
	case errors.Is(err, context.DeadlineExceeded):
		return r.status(apierrors.NewTimeoutError("request did not complete within the allowed duration", 0))
	case errors.Is(err, context.Canceled):
		return r.status(apierrors.NewTimeoutError("the client went away", 0))
	}
	r.s.log.Error("request failed", "method", r.r.Method, "path", r.r.URL.Path, "err", err)
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown, Message: err.Error(),
	}
}

func tooOld(asked string, now int64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %s (%d)", asked, now))
}

func tooNew(asked string, now int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %s, current: %d", asked, now), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// warn adds a Warning header, each text once.
func (r *request) warn(text string) {
	const maxWarnings = 32
	if r.warned == nil {
		r.warned = map[string]bool{}
	}
	if text == "" || r.warned[text] || len(r.warned) >= maxWarnings {
		return
	}
	r.warned[text] = true
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	r.w.Header().Add("Warning", "299 - "+strconv.Quote(clean))
}

// body reads the request's body within its limit.
func (r *request) body() ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.r.Body, maxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("read body: " + err.Error())
	}
	if len(raw) > maxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	return raw, nil
}

// decode reads a body that is no object of the request's kind.
func (r *request) decode(want schema.GroupVersionKind, into runtime.Object, raw []byte, validation string) error {
	contentType, err := r.contentType()
	if err != nil {
		return err
	}
	_, err = patch.Decode(want, into, contentType, raw, validation)
	return err
}

// contentType is what the body is said to be, if that is spoken.
func (r *request) contentType() (string, error) {
	contentType := r.r.Header.Get("Content-Type")
	return contentType, patch.Speaks(contentType, r.s.cfg.CBOR)
}

func (r *request) version() {
	r.out = &choice{media: typeJSON, pretty: true}
	raw, err := json.Marshal(r.s.cfg.Version)
	if err != nil {
		r.fail(err)
		return
	}
	_ = r.respond(http.StatusOK, raw)
}

// index lists the paths, for people.
func (r *request) index() {
	paths := []string{"/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	r.out = &choice{media: typeJSON, pretty: true}
	raw, err := json.Marshal(metav1.RootPaths{Paths: paths})
	if err != nil {
		r.fail(err)
		return
	}
	_ = r.respond(http.StatusOK, raw)
}
