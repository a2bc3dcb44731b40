// Package api is the vocabulary in which the server is told about a kind.
//
// The one idea: a kind is data plus small pure functions. Each file under
// apis/<group>/ fills in one Resource value (names, defaults, validation, what an
// update may touch, table columns, selectable fields) and everything else (verbs,
// patches, watches, discovery, OpenAPI, storage) is generic machinery that reads it.
// Only versioned types exist: T is the Go type of the version named, and the type that
// is stored unless Storage says otherwise.
//
// Used by the packages of apis/, by store and by apiserver; imports neither.
package api

import (
	"context"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what the pointer to every kind's Go type implements.
type Object interface {
	runtime.Object
	metav1.Object
}

// Resource says everything about one stored kind in one version. Leave out what does
// not apply; the comments give what happens then. All functions are pure but for the
// object they are given to fill in, must accept any decoded object without a panic, and
// never keep what they are given.
type Resource[T Object] struct {
	// Names.
	Group, Version string
	Kind           string // "Deployment"; the list is Kind+"List"
	Plural         string // "deployments"
	Singular       string // default: Kind in lower case
	Short          []string
	Categories     []string // "all" for kubectl get all
	Namespaced     bool

	// Prefix is the folder under /registry/ that etcd keeps the objects in, exactly as
	// upstream does ("pods", "services/specs", "minions"). Default: Plural.
	Prefix string
	// Storage names the version that is stored, for a kind served in several; the default
	// is that this version is stored. A version that is not stored needs Convert.
	Storage *Conversion[T]
	// Alike are other versions of the group in which values may be stored (by earlier releases,
	// by Kubernetes), and whose stored form is the same.
	Alike []string
	// Written is the one of Alike that values are stored as, where Kubernetes waits with Version
	// until the release before can read it. Default: Version.
	Written string
	// Earlier are versions in which values may be stored, and whose form is another.
	Earlier []Earlier[T]
	// TTL is how long an object lives after its last write; zero is for ever (events: 1h).
	TTL time.Duration

	// Default fills in unset fields, on create, on update and on read of old objects.
	Default func(T)
	// PrepareCreate clears what a client may not set. Status is cleared and generation set
	// to 1 by the machinery where HasStatus, HasGeneration hold.
	PrepareCreate func(ctx context.Context, obj T)
	// PrepareUpdate carries over what a client may not change by a plain update. Status and
	// metadata are carried over by the machinery.
	PrepareUpdate func(ctx context.Context, obj, old T)
	// Validate returns what is wrong with obj itself, in upstream's words and order.
	// Metadata is validated by the machinery, names by ValidateName.
	Validate func(obj T) field.ErrorList
	// ValidateCreate returns what is wrong with a new object alone, so that old ones can still
	// be updated; Validate has run on obj before.
	ValidateCreate func(obj T) field.ErrorList
	// Ratchets: ValidateUpdate judges the whole object by what it was, Validate is for new ones alone.
	Ratchets bool
	// ValidateUpdate returns what is wrong with the change; Validate has run on obj before, unless it Ratchets.
	ValidateUpdate func(obj, old T) field.ErrorList
	// ValidateName returns why a name is refused; prefix is set for generateName. Default:
	// DNS subdomain (k8s.io/apimachinery/pkg/api/validation.NameIsDNSSubdomain).
	ValidateName func(name string, prefix bool) []string
	// Warnings are sent to the client in Warning headers; they refuse nothing. old is the
	// zero T on create.
	Warnings func(obj, old T) []string
	// Reserve takes what must be unique in the cluster (cluster addresses, node ports) from
	// env before obj is stored, and writes it into obj; undo gives it back when the write
	// fails. old is the zero T on create.
	Reserve func(ctx context.Context, env *Env, obj, old T) (undo func(), err error)
	// Claims are what no two objects of the kind may have ("port/TCP/30080"). The store sees to it where several
	// servers write; one that is alone relies on Reserve.
	Claims func(obj T) []string
	// Released is called once after an object is gone for good, to give back what Reserve took.
	Released func(env *Env, old T)
	// BeforeDelete decides on graceful deletion. Nil deletes at once, after finalizers.
	// It may shorten or lengthen *options.GracePeriodSeconds and edit obj (a copy); graceful
	// says that the object stays with a deletionTimestamp until deleted again with grace 0, and if the options
	// say no grace period then, that it has none.
	BeforeDelete func(obj T, options *metav1.DeleteOptions) (graceful bool)
	// Dependents is what becomes of what an object owns when a client deletes it without saying so; OrphansText, if
	// not empty, warns him.
	Dependents  Dependents
	OrphansText string
	// Finalizers are put on each new object (namespaces keep theirs in the spec instead).
	// CreateOnUpdate allows PUT to create (leases, endpoints, config maps: upstream's
	// AllowCreateOnUpdate).
	CreateOnUpdate bool
	// UnconditionalUpdate allows PUT without a resourceVersion (upstream's
	// AllowUnconditionalUpdate); most kinds do.
	UnconditionalUpdate bool
	// NoDeleteCollection refuses to delete all objects at once (namespaces).
	NoDeleteCollection bool

	// HasStatus: the type has a Status field, written only through the status subresource.
	HasStatus bool
	// StatusOnCreate: a new object keeps the status that a client gives it (nodes).
	StatusOnCreate bool
	// ValidateStatus checks a change made through the status subresource.
	ValidateStatus func(obj, old T) field.ErrorList
	// PrepareStatus runs on a status write after spec and metadata were carried over.
	PrepareStatus func(obj, old T)
	// Unowned names the fields ("spec", "metadata.labels") that a write through a subresource ("" for the object
	// itself) does not change, so that its writer does not come to own them. Default, where HasStatus holds:
	// the status for the object itself, the spec for the status.
	Unowned map[string][]string
	// HasGeneration: metadata.generation grows whenever anything but metadata and status
	// changes (upstream's kinds differ; config maps have none).
	HasGeneration bool
	// Scale serves the scale subresource.
	Scale *Scale[T]
	// Updates are further subresources that read and write the object itself, each a part of
	// it ("ephemeralcontainers", "resize", "finalize", "approval").
	Updates []Update[T]
	// Actions are subresources that a client POSTs another kind to ("binding", "eviction", "token").
	Actions []Action
	// Connects are subresources that upgrade or proxy ("log", "exec", "proxy"); who serves them is
	// known to apiserver by GroupResource and name. They are listed here for discovery.
	Connects []Connect

	// Columns of the table that kubectl get shows, after Name; Age is part of the list where
	// upstream shows it. Priority 0 is the narrow form.
	Columns []Column[T]
	// Ended are the conditions of an object's row, nil: none.
	Ended func(T) []metav1.TableRowCondition
	// Fields are the field selectors beside metadata.name and metadata.namespace.
	Fields map[string]func(T) string
	// FieldText refuses any other of a kind with Fields, whose name is %s. Default: "field label not supported: %s".
	FieldText string
	// Indexes names those Fields by which watchers are found without asking each ("spec.nodeName").
	Indexes []string
}

// Dependents says what becomes of the objects that an object of a kind owns.
type Dependents int

// What becomes of them by default.
const (
	Collected  Dependents = iota // they are deleted after their owner
	Orphaned                     // they stay
	Unobserved                   // the kind owns nothing: what a client says of it is not heard
)

// Earlier reads a version of a kind that is not written any more.
type Earlier[T Object] struct {
	Version string
	New     func() Object           // what such a value is decoded into
	To      func(Object) (T, error) // takes what New made
}

// Conversion ties a version that is served but not stored to the stored one.
type Conversion[T Object] struct {
	Group, Version string         // the stored version
	From           func(Object) T // stored to served; may share what neither side changes
	To             func(T) Object // served to stored
}

// Update is a subresource that is a view of the object: GET answers the object, PUT and
// PATCH take the object and keep only the part this subresource may change.
type Update[T Object] struct {
	Name string // "ephemeralcontainers"
	// Apply edits obj, what the client sent merged over old, so that it differs from old
	// only where this subresource may.
	Apply    func(ctx context.Context, obj, old T)
	Validate func(obj, old T) field.ErrorList
	NoGet    bool // only PUT ("finalize")
	NoPatch  bool
}

// Action is a create-only subresource (or, on a Virtual kind, the kind itself).
type Action struct {
	Name           string // "binding"
	Group, Version string // of the body
	Kind           string
	New            func() runtime.Object
	Alike          []string // further versions that a body may be of
	// Do performs it and gives the answer. object is decoded and defaulted; name and
	// namespace are those of the URL. Errors are *apierrors.StatusError.
	Do func(ctx context.Context, env *Env, call Call, object runtime.Object) (runtime.Object, error)
}

// Call is what an Action is told about its request.
type Call struct {
	Namespace, Name string
	User            User
	DryRun          bool
}

// User is who asks, as admission and token requests see it.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Connect describes a subresource that is not an object: kubectl logs, exec, proxies.
type Connect struct {
	Name  string                // "log"
	Kind  string                // kind that discovery shows: "Pod", "PodExecOptions"
	Verbs []string              // in discovery: "get", "create"
	New   func() runtime.Object // its options, decoded from the query; nil: none
}

// Scale maps the scale subresource onto a kind.
type Scale[T Object] struct {
	Get func(T) *autoscalingv1.Scale // metadata is filled in by the machinery
	Set func(obj T, replicas int32)
	// Replicas is the path of the field, for managed fields: "spec.replicas".
	Replicas string
}

// Column is one column of a server-side table.
type Column[T Object] struct {
	Name        string
	Type        string // "string" (default), "integer", "date", "boolean"
	Format      string
	Description string
	Priority    int32
	Value       func(T) any // what the cell holds: string, int64, bool, []string
}

// Virtual is a kind that is never stored: a client POSTs it and is answered at once
// (TokenReview, SubjectAccessReview).
type Virtual struct {
	Group, Version string
	Kind, Plural   string
	Singular       string
	Namespaced     bool
	Action         Action // Name is empty
}
