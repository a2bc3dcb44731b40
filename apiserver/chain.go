package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/httpstream"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// Handler is the whole pipeline for remote clients.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.handle) }

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	r2 := &request{s: s, now: s.table.Load(), w: w, r: r, query: r.URL.Query()}
	r2.sent.ResponseWriter = w
	r2.w = &r2.sent
	w = r2.w
	received := time.Now()
	defer r2.count(received)
	defer func() { r2.record.End() }()
	defer r2.recover()
	w.Header().Set("Audit-Id", auditID(r))
	for prefix, h := range s.cfg.Open {
		if r.URL.Path == prefix {
			h.ServeHTTP(w, r)
			return
		}
	}
	if err := r2.identify(); err != nil {
		s.log.Debug("unauthenticated", "path", r.URL.Path, "err", err)
		w.Header().Set("WWW-Authenticate", `Basic realm="kubernetes-master"`)
		r2.closeStrangers()
		r2.auditStranger(received)
		r2.fail(apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	err := r2.route()
	r2.remote = r2.delegate()
	r2.audit(received)
	if err != nil {
		r2.fail(err)
		return
	}
	if err := r2.impersonate(); err != nil {
		r2.fail(err)
		return
	}
	if err := r2.authorize(); err != nil {
		if r2.user.Name == access.Anonymous {
			r2.closeStrangers()
		}
		r2.fail(err)
		return
	}
	if err := r2.admit(); err != nil {
		s.metrics.Of(r2.counted()).Terminated(http.StatusTooManyRequests)
		r2.fail(err)
		return
	}
	defer r2.place.Leave()
	defer r2.begin()()
	if !r2.long() {
		ctx, cancel := context.WithTimeout(r2.r.Context(), s.cfg.RequestTimeout)
		defer cancel()
		defer r2.within(ctx)()
		r2.r = r2.r.WithContext(ctx)
	}
	r2.dispatch()
}

func auditID(r *http.Request) string {
	if id := r.Header.Get("Audit-Id"); id != "" && len(id) <= 64 {
		return id
	}
	return uuid.NewString()
}

// recover answers for a panic: a fault of ours that must cost no more than this request.
func (r *request) recover() {
	v := recover()
	if v == nil || v == http.ErrAbortHandler { //nolint:errorlint // a panic value
		if v != nil {
			panic(v)
		}
		return
	}
	r.record.Panicked(v)
	r.s.log.Error("panic in request", "method", r.r.Method, "path", r.r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	r.fail(apierrors.NewInternalError(errors.New("this request caused apiserver to panic. Look in the logs for details")))
}

func (r *request) identify() error {
	if u, ok := r.r.Context().Value(userKey{}).(*api.User); ok {
		r.user = u
		return nil
	}
	begun := time.Now()
	u, err := r.s.cfg.Authenticator.Authenticate(r.r)
	took := time.Since(begun)
	if err == nil && u == nil {
		err = errors.New("no credentials")
	}
	if err != nil {
		r.s.metrics.Access.Stranger(took)
		return err
	}
	r.s.metrics.Access.Identified(u.Name, took)
	if r.r.TLS != nil && len(r.r.TLS.PeerCertificates) > 0 {
		r.s.metrics.Access.Certificate(r.r.TLS.PeerCertificates[0].NotAfter.Sub(begun))
	}
	r.user = u
	return nil
}

// impersonate changes the identity as the Impersonate-* headers ask, if the user may.
func (r *request) impersonate() error {
	h := r.r.Header
	name, groups, uid := h.Get("Impersonate-User"), h.Values("Impersonate-Group"), h.Get("Impersonate-Uid")
	extra := impersonatedExtra(h)
	if name == "" {
		if len(groups) > 0 || len(extra) > 0 || uid != "" {
			return apierrors.NewBadRequest("requested without impersonating a user")
		}
		return nil
	}
	ask := func(a access.Attributes) error {
		a.User, a.Verb, a.Resource, a.Version = r.user, "impersonate", true, "v1"
		if d, reason := r.s.cfg.Authorizer.Authorize(r.r.Context(), &a); d != access.Allow {
			return forbidden(&a, reason)
		}
		return nil
	}
	who := access.Attributes{Plural: "users", Name: name}
	if ns, account, ok := access.SplitServiceAccount(name); ok {
		who = access.Attributes{Plural: "serviceaccounts", Namespace: ns, Name: account}
	}
	wanted := []access.Attributes{who}
	for _, g := range groups {
		wanted = append(wanted, access.Attributes{Plural: "groups", Name: g})
	}
	for _, k := range slices.Sorted(maps.Keys(extra)) {
		for _, v := range extra[k] {
			wanted = append(wanted, access.Attributes{Group: "authentication.k8s.io", Plural: "userextras", Subresource: k, Name: v})
		}
	}
	if uid != "" {
		wanted = append(wanted, access.Attributes{Group: "authentication.k8s.io", Plural: "uids", Name: uid})
	}
	for _, a := range wanted {
		if err := ask(a); err != nil {
			return err
		}
	}
	if len(groups) == 0 && who.Plural == "serviceaccounts" {
		groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + who.Namespace}
	}
	r.user = &api.User{Name: name, UID: uid, Groups: withEveryone(name, groups), Extra: extra}
	r.record.Impersonated(r.user)
	for key := range h {
		if strings.HasPrefix(strings.ToLower(key), "impersonate-") {
			h.Del(key)
		}
	}
	return nil
}

// impersonatedExtra reads Impersonate-Extra-* headers; their keys are escaped as in a URL,
// for what a header's name cannot hold.
func impersonatedExtra(h http.Header) map[string][]string {
	extra := map[string][]string{}
	for header, values := range h {
		key, ok := strings.CutPrefix(strings.ToLower(header), "impersonate-extra-")
		if !ok {
			continue
		}
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		extra[key] = append(extra[key], values...)
	}
	return extra
}

// withEveryone adds the group that all users are in, unless the impersonator said which.
func withEveryone(user string, groups []string) []string {
	const known, unknown = "system:authenticated", "system:unauthenticated"
	switch {
	case slices.Contains(groups, known), slices.Contains(groups, unknown):
		return slices.Clone(groups)
	case user == "system:anonymous":
		return append(slices.Clone(groups), unknown)
	}
	return append(slices.Clone(groups), known)
}

func (r *request) authorize() error {
	a := r.attributes()
	r.asked = a
	begun := time.Now()
	d, reason := r.s.cfg.Authorizer.Authorize(r.r.Context(), a)
	r.s.metrics.Access.Decided(d, time.Since(begun))
	r.auditDecision(d, reason)
	if d == access.Allow {
		return nil
	}
	return forbidden(a, reason)
}

func (r *request) attributes() *access.Attributes {
	if r.kind == nil && r.resource == "" {
		return &access.Attributes{User: r.user, Verb: strings.ToLower(r.r.Method), Path: r.r.URL.Path}
	}
	verb := r.verb
	// A tunnel is what it does, not the method that opens it: WebSockets begin with GET.
	if r.connect != nil && (r.sub == "exec" || r.sub == "attach" || r.sub == "portforward") && verb == "get" {
		verb = "create"
	}
	// Who lists or watches one object by a field selector asks for that object.
	name := r.name
	if name == "" && r.verb != "create" {
		if sel, err := fields.ParseSelector(r.query.Get("fieldSelector")); err == nil {
			if one, ok := sel.RequiresExactMatch("metadata.name"); ok {
				name = one
			}
		}
	}
	return &access.Attributes{
		User: r.user, Verb: verb, Resource: true, Group: r.gv.Group, Version: r.gv.Version, Plural: r.resource,
		Subresource: r.sub, Namespace: r.namespace, Name: name,
		FieldSelector: r.query.Get("fieldSelector"), LabelSelector: r.query.Get("labelSelector"),
	}
}

// forbidden is a refusal in the words that users and tools know.
func forbidden(a *access.Attributes, reason string) error {
	if !a.Resource {
		text := fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
		if reason != "" {
			text += ": " + reason
		}
		return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(text))
	}
	what := a.Plural
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q", a.User.Name, a.Verb, what, a.Group)
	if a.Namespace != "" {
		text += fmt.Sprintf(" in the namespace %q", a.Namespace)
	} else {
		text += " at the cluster scope"
	}
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Plural}, a.Name, errors.New(text))
}

// admit finds the request a place among those that run at once. Tunnels last too long to
// hold one, a watch holds one while it begins (see settled), and this process's own
// components are not made to wait behind clients.
func (r *request) admit() error {
	if _, own := r.r.Context().Value(userKey{}).(*api.User); own || r.long() && r.verb != "watch" {
		return nil
	}
	begun := time.Now()
	var err error
	r.place, err = r.s.fairness.Admit(r.r.Context(), r.asked, r.seats(), r.w.Header())
	r.elsewhere += time.Since(begun)
	return err
}

// settled gives the place back early: what follows of a watch costs little.
func (r *request) settled() { r.place.Leave() }

// A list takes a seat for each so many objects that it looks at, up to the most.
const (
	objectsPerSeat = 500
	maxSeats       = 10
)

// seats is how much work a request is.
func (r *request) seats() int {
	if r.kind == nil || r.kind.collection == nil || r.verb != "list" && (r.verb != "watch" || !r.on("sendInitialEvents")) {
		return 1
	}
	now, err := r.kind.collection.Snapshot(r.r.Context(), store.Any)
	if err != nil {
		return 1
	}
	n := now.Len(r.namespace)
	if limit, err := strconv.Atoi(r.query.Get("limit")); err == nil && limit > 0 && r.query.Get("fieldSelector") == "" && r.query.Get("labelSelector") == "" {
		n = min(n, limit)
	}
	return min(1+n/objectsPerSeat, maxSeats)
}

// long requests last as long as their client likes.
func (r *request) long() bool {
	return r.verb == "watch" || r.connect != nil || r.sub == "log" && r.on("follow") ||
		r.remote != nil && (r.sub == "proxy" || httpstream.IsUpgradeRequest(r.r))
}
