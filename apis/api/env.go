package api

import (
	"context"
	"net/netip"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Env is what kinds may use of the server: cached state, the store behind the same
// checks that a request passes, and the few services that belong to the cluster. It is
// filled in by cluster/ before the first request and never changed after.
type Env struct {
	Reader   Reader
	Writer   Writer
	Tokens   Tokens
	Reviews  Reviews
	Services Addresses
	Ports    Ports
	// Components are what ComponentStatus tells of, by name.
	Components []Component
}

// Reader reads the watch cache. What it returns is shared: never change it.
type Reader interface {
	// Get finds one object; namespace is empty for cluster-scoped kinds.
	Get(resource schema.GroupResource, namespace, name string) (Object, bool)
	// List gives the objects of a namespace, or of all ("").
	List(resource schema.GroupResource, namespace string) []Object
	// Revision grows whenever an object of the kind changes; who derives something from
	// the kind's objects caches it until then. 0 when the kind is not served.
	Revision(resource schema.GroupResource) int64
}

// fresher is a Reader of one server of several.
type fresher interface {
	// Refresh waits, a few seconds at most, until it shows what was acknowledged before by
	// any server; false when nothing can have changed by that.
	Refresh() bool
}

// Sure finds an object as Get does; one that is not there may have been made by way of another server
// just now, so that is asked for before it is said to be missing. For what people create one after another.
func Sure(r Reader, resource schema.GroupResource, namespace, name string) (Object, bool) {
	obj, ok := r.Get(resource, namespace, name)
	if ok {
		return obj, ok
	}
	if f, several := r.(fresher); several && f.Refresh() {
		return r.Get(resource, namespace, name)
	}
	return obj, ok
}

// Writer changes objects on behalf of the server (bindings, evictions). Admission and
// authorization are not asked again; defaults and validation are not run.
type Writer interface {
	// Update applies change to a copy of the newest object and stores it, trying again on
	// conflict. change may return an error to stop. With dryRun nothing is stored.
	Update(ctx context.Context, resource schema.GroupResource, namespace, name string, dryRun bool, change func(Object) error) (Object, error)
	// Delete is what a DELETE request does after authorization: grace, finalizers,
	// propagation, preconditions.
	Delete(ctx context.Context, resource schema.GroupResource, namespace, name string, options *metav1.DeleteOptions) error
}

// Tokens signs and checks service account tokens (KEP-1205). Implemented by access.
type Tokens interface {
	Issue(claims TokenClaims) (token string, expires time.Time, err error)
	Audiences() []string // of a token that asks for none
	Review(ctx context.Context, spec authenticationv1.TokenReviewSpec) authenticationv1.TokenReviewStatus
}

// TokenClaims is what a service account token is bound to.
type TokenClaims struct {
	Namespace, ServiceAccount, ServiceAccountUID string
	PodName, PodUID                              string   // optional
	SecretName, SecretUID                        string   // optional
	NodeName, NodeUID                            string   // optional
	Audiences                                    []string // empty: the API server's own
	Expires                                      time.Duration
}

// Reviews answers the SubjectAccessReview family. Implemented by access.
type Reviews interface {
	Access(ctx context.Context, user User, resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus
	Rules(ctx context.Context, user User, namespace string) authorizationv1.SubjectRulesReviewStatus
}

// Addresses hands out cluster addresses of Services; safe for concurrent use.
type Addresses interface {
	CIDRs() []netip.Prefix
	// Take reserves one address; ErrAddressTaken-like failures are field-agnostic errors.
	Take(netip.Addr) error
	Next(family int) (netip.Addr, error) // family 4 or 6
	Free(netip.Addr)
}

// Ports hands out node ports; safe for concurrent use. A port is held per protocol.
type Ports interface {
	Range() (first, last int32)
	Take(port int32, protocol string) error
	Next(protocol string) (int32, error)
	Free(port int32, protocol string)
}
