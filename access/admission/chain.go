package admission

import (
	"errors"
	"log/slog"
	"time"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// Env is what the steps may use.
type Env struct {
	Reader     api.Reader
	Authorizer access.Authorizer // for steps that ask whether the user may do more (escalate, approve, ...)
	RBAC       *access.RBAC
	Now        func() time.Time // default time.Now
	Log        *slog.Logger
	// Admins are user names that may write the defaults without holding their permissions
	// (the server's own client that stores them). system:masters always may.
	Admins   []string
	Settings Settings // see ReadSettings
}

// DefaultChain is the list of steps, those that are Off until enabled among them. Order is meaning:
// what sets a value comes before what reads it, refusals that need no look at the object
// come first. Webhooks and policies are appended by the caller, quota last of all.
func DefaultChain(env Env) (Chain, error) {
	if env.Reader == nil || env.Authorizer == nil || env.RBAC == nil {
		return nil, errors.New("admission: Env needs Reader, Authorizer and RBAC")
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Settings.PodSecurity == nil {
		var err error
		if env.Settings, err = ReadSettings(""); err != nil {
			return nil, err
		}
	}
	security, err := newPodSecurity(env)
	if err != nil {
		return nil, err
	}
	node, request := &nodeRestriction{env}, &certificateRequest{env}
	runtime, selectors := &runtimeClasses{env}, &nodeSelectors{env, env.Settings.NodeSelectors}
	account, priority, limits := &serviceAccount{env}, &priorityClasses{env}, &limitRanger{env}
	return Chain{
		{Name: "NamespaceLifecycle", Mutator: &namespaceLifecycle{env}}, // before all: nothing else is worth doing in a namespace that goes
		{Name: "CertificateRequester", Mutator: requester{}},            // whose request it is, before anyone judges it
		{Name: "TaintNodesByCondition", Mutator: taintNodes{}},
		{Name: "AlwaysPullImages", Mutator: pullImages{}, Validator: pullImages{}, Off: true},
		{Name: "NodeRestriction", Mutator: node},
		{Name: "ServiceAccount", Mutator: account, Validator: account},
		{Name: "Priority", Mutator: priority, Validator: priority},
		{Name: "DefaultTolerationSeconds", Mutator: defaultTolerations{}},
		{Name: "DefaultStorageClass", Mutator: &defaultStorageClass{env}},
		{Name: "StorageObjectInUseProtection", Mutator: inUse{}},
		{Name: "PersistentVolumeClaimResize", Validator: &claimResize{env}},
		{Name: "RuntimeClass", Mutator: runtime, Validator: runtime},
		{Name: "LimitRanger", Mutator: limits, Validator: limits},
		{Name: "PodSecurity", Validator: security},
		{Name: "CertificateApproval", Validator: request},
		{Name: "PodCertificateSigning", Validator: &podCertificates{env}},
		{Name: "ClusterTrustBundleAttest", Validator: &trustBundles{env}},
		{Name: "DefaultIngressClass", Mutator: &defaultIngressClass{env}},
		{Name: "PodTopologyLabels", Mutator: &podTopology{env}},
		{Name: "ExtendedResourceToleration", Mutator: tolerateExtended{}, Off: true},
		{Name: "PodNodeSelector", Mutator: selectors, Validator: selectors, Off: true},
		{Name: "LimitPodHardAntiAffinityTopology", Validator: hostAntiAffinity{}, Off: true},
		{Name: "NodeDeclaredFeatureValidator", Validator: &nodeFeatures{env}},
		{Name: "PodResizeValidator", Validator: &podResize{env}},
		{Name: "DenyServiceExternalIPs", Validator: externalAddresses{}, Off: true},
		{Name: "RBACEscalation", Validator: &escalation{env}},
	}, nil
}
