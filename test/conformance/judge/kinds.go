package main

import (
	"context"
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	crdinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	clientv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	aggregateinstall "k8s.io/kube-aggregator/pkg/apis/apiregistration/install"
	"k8s.io/kube-aggregator/pkg/registry/apiservice"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/resolver"
	clocktesting "k8s.io/utils/clock/testing"
)

// rules are those of one kind.
type rules struct {
	create rest.RESTCreateStrategy
	update map[string]rest.RESTUpdateStrategy // by subresource
	before func(runtime.Object)               // what the registry does before it validates
	check  func(runtime.Object) error         // of a kind that is not stored
	codec  *serializer.CodecFactory
}

func (k rules) codecs() *serializer.CodecFactory {
	if k.codec != nil {
		return k.codec
	}
	return &legacyscheme.Codecs
}

func (k rules) review(obj runtime.Object) error {
	if k.check == nil {
		return errors.New("the kind cannot be created")
	}
	return k.check(obj)
}

// both is a strategy for a kind that has no subresources.
type both interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

func plain(s both) rules {
	return rules{create: s, update: map[string]rest.RESTUpdateStrategy{"": s}}
}

func withStatus(s both, status rest.RESTUpdateStrategy) rules {
	k := plain(s)
	k.update["status"] = status
	return k
}

func (k rules) with(sub string, s rest.RESTUpdateStrategy) rules {
	k.update[sub] = s
	return k
}

func codecsOf(install func(*runtime.Scheme)) (*runtime.Scheme, *serializer.CodecFactory) {
	scheme := runtime.NewScheme()
	install(scheme)
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	return scheme, &codecs
}

func customDefinitions() rules {
	scheme, codecs := codecsOf(crdinstall.Install)
	k := withStatus(customresourcedefinition.NewStrategy(scheme), customresourcedefinition.NewStatusStrategy(scheme))
	k.codec = codecs
	return k
}

func apiServices() rules {
	scheme, codecs := codecsOf(aggregateinstall.Install)
	k := withStatus(apiservice.NewStrategy(scheme), apiservice.NewStatusStrategy(scheme))
	k.codec = codecs
	return k
}

func invalid(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Kind: kind}, "", errs)
}

// allowAll lets everyone do everything.
type allowAll struct{}

func (allowAll) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

// namespaces are all there, without labels.
type namespaces struct{ clientv1.NamespaceInterface }

func (namespaces) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Namespace, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}

var clock = clocktesting.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// policies are all unknown, resources named after their kind.
type policies struct{}

func (policies) GetValidatingAdmissionPolicy(_ context.Context, name string) (*admissionregistration.ValidatingAdmissionPolicy, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
}

func (policies) GetMutatingAdmissionPolicy(_ context.Context, name string) (*admissionregistration.MutatingAdmissionPolicy, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
}

var resources = resolver.ResourceResolverFunc(func(kind schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	return kind.GroupVersion().WithResource(strings.ToLower(kind.Kind) + "s"), nil
})
