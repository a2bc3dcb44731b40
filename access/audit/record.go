package audit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/proa-dev/proa/apis/api"
)

// Limits of what one event holds.
const (
	maxAnnotations = 64
	maxObject      = 10 << 20 // bytes of a request's or answer's object, as upstream's truncation has it
)

// slow requests say in their event how long they took.
const slow = 500 * time.Millisecond

// Record is what is kept of one request. Its methods do nothing on nil. Annotate may be called
// from several goroutines, the others by the one that serves the request.
type Record struct {
	log     *Log
	rule    *rule
	level   level
	request Request

	impersonated *api.User
	ref          reference
	requestBody  []byte // JSON
	responseBody []byte
	status       *metav1.Status
	started      bool
	panicked     bool

	mu          sync.Mutex
	annotations []annotation
	few         [4]annotation // where they begin
}

// reference is what the body of a request adds to its URL.
type reference struct{ namespace, name, uid, version string }

type annotation struct{ key, value string }

// WantsRequest says that the object of the request is to be given.
func (r *Record) WantsRequest() bool { return r != nil && r.level >= request }

// WantsResponse says that the object of the answer is to be given.
func (r *Record) WantsResponse() bool { return r != nil && r.level >= requestResponse }

// Impersonated says as whom the request goes on.
func (r *Record) Impersonated(u *api.User) {
	if r != nil {
		r.impersonated = u
	}
}

// Annotate adds to the request's events; of a key the first value stays.
func (r *Record) Annotate(key, value string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.annotations {
		if a.key == key {
			return
		}
	}
	if r.annotations == nil {
		r.annotations = r.few[:0]
	}
	if len(r.annotations) < maxAnnotations {
		r.annotations = append(r.annotations, annotation{key, value})
	}
}

// Annotator is Annotate as admission takes it: nil when nobody keeps annotations.
func (r *Record) Annotator() func(key, value string) {
	if r == nil {
		return nil
	}
	return r.Annotate
}

// Sent is the object of a request as it was decoded, before anything is filled in.
func (r *Record) Sent(obj any) {
	if r == nil {
		return
	}
	if m, ok := obj.(metav1.Object); ok {
		r.ref = reference{m.GetNamespace(), m.GetName(), string(m.GetUID()), m.GetResourceVersion()}
	}
	if r.level >= request {
		r.requestBody = r.object(obj)
	}
}

// SentPatch is the patch of a request, as JSON.
func (r *Record) SentPatch(raw []byte) {
	if r.WantsRequest() && json.Valid(raw) {
		r.requestBody = r.trimmed(raw)
	}
}

// Answered is the object of the answer. A Status says how the request ended.
func (r *Record) Answered(obj any) {
	if r == nil {
		return
	}
	if s, ok := obj.(*metav1.Status); ok && r.status == nil {
		r.status = s
	}
	if r.level >= requestResponse {
		r.responseBody = r.object(obj)
	}
}

// AnsweredWith is Answered for an object whose JSON is there already; it is not kept.
func (r *Record) AnsweredWith(raw []byte) {
	if r.WantsResponse() {
		r.responseBody = r.trimmed(append([]byte(nil), raw...))
	}
}

// object is the JSON of an object; nil when it has none.
func (r *Record) object(obj any) []byte {
	raw, err := json.Marshal(obj)
	if err != nil {
		return nil
	}
	return r.trimmed(raw)
}

// trimmed takes managedFields out where the rule wants that, and leaves out what is too large.
func (r *Record) trimmed(raw []byte) []byte {
	if len(raw) > maxObject {
		r.Annotate("audit.k8s.io/truncated", "true")
		return nil
	}
	if r.rule.managed {
		return raw
	}
	var content map[string]any
	if json.Unmarshal(raw, &content) != nil {
		return raw // a JSON patch is a list, and has none
	}
	withoutManaged(content)
	items, _ := content["items"].([]any)
	for _, i := range items {
		if one, ok := i.(map[string]any); ok {
			withoutManaged(one)
		}
	}
	out, err := json.Marshal(content)
	if err != nil {
		return raw
	}
	return out
}

func withoutManaged(content map[string]any) {
	if meta, ok := content["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
	}
}

// Failed says how the request ended, in other words than the client gets.
func (r *Record) Failed(s *metav1.Status) {
	if r != nil {
		r.status = s
	}
}

// Panicked says that serving the request ended in a panic.
func (r *Record) Panicked(v any) {
	if r == nil {
		return
	}
	r.panicked = true
	r.status = &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
		Message: fmt.Sprintf("APIServer panic'd: %v", v),
	}
}

// Started says that the answer has begun, with a code; of what lasts, that is an event.
func (r *Record) Started(code int) {
	if r == nil || r.started {
		return
	}
	r.started = true
	if !r.panicked {
		r.code(code)
	}
	if r.request.Long || r.request.Stranger {
		r.event(auditv1.StageResponseStarted)
	}
}

// code is that which the client gets; the status may be known in more words.
func (r *Record) code(code int) {
	if r.status == nil {
		r.status = &metav1.Status{Code: int32(code)}
	} else if r.status.Code != int32(code) {
		s := *r.status
		s.Code = int32(code)
		r.status = &s
	}
}

// End writes the last event.
func (r *Record) End() {
	if r == nil {
		return
	}
	if r.panicked {
		r.event(auditv1.StagePanic)
		return
	}
	if r.request.Stranger {
		return
	}
	if !r.started {
		r.status = &metav1.Status{Code: http.StatusOK, Status: metav1.StatusSuccess, Message: "Connection closed early"}
		r.Started(http.StatusOK)
	}
	if took := r.log.now().Sub(r.request.Received); took > slow && !r.request.Long {
		r.Annotate("apiserver.latency.k8s.io/total", took.String())
	}
	r.event(auditv1.StageResponseComplete)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// event encodes and writes what is known at a stage, unless the rule leaves the stage out.
func (r *Record) event(stage auditv1.Stage) {
	for i, s := range stages {
		if s == stage && r.rule.omit[i] {
			return
		}
	}
	r.log.counts.events.Add(1)
	b := buffers.Get().(*[]byte)
	line := append(r.append((*b)[:0], stage, r.log.now()), '\n')
	for _, s := range r.log.sinks {
		s.Write(line)
	}
	if cap(line) <= 1<<20 {
		*b = line
		buffers.Put(b)
	}
}

// timeFormat is metav1.MicroTime's.
const timeFormat = "2006-01-02T15:04:05.000000Z07:00"

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	return append(t.UTC().AppendFormat(b, timeFormat), '"')
}
