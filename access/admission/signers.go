package admission

import (
	"context"
	"fmt"
	"reflect"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// mayUse says whether the user has a verb on a signer, or on all signers of its domain.
func mayUse(ctx context.Context, env Env, a *Attributes, verb, signer string) bool {
	return (&certificateRequest{env}).may(ctx, a, verb, signer)
}

// trustBundles lets nobody speak for a signer who was not given that.
type trustBundles struct{ env Env }

func (t *trustBundles) Validate(ctx context.Context, a *Attributes) error {
	if a.Kind.Group != certificatesv1.GroupName || a.Kind.Resource.Resource != "clustertrustbundles" || a.Subresource != "" {
		return nil
	}
	now, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
	if !ok || a.Operation != Create && a.Operation != Update || now.Spec.SignerName == "" {
		return nil
	}
	if old, ok := a.Old.(*certificatesv1.ClusterTrustBundle); ok && old != nil && reflect.DeepEqual(now.Spec, old.Spec) {
		return nil // a label or a finalizer says nothing about trust
	}
	if !mayUse(ctx, t.env, a, "attest", now.Spec.SignerName) {
		return forbidden(a, fmt.Errorf("user not permitted to attest for signerName %q", now.Spec.SignerName))
	}
	return nil
}

// podCertificates lets a signer alone answer the requests of pods.
type podCertificates struct{ env Env }

func (p *podCertificates) Validate(ctx context.Context, a *Attributes) error {
	if a.Kind.Group != certificatesv1.GroupName || a.Kind.Resource.Resource != "podcertificaterequests" || a.Operation != Update || a.Subresource != "status" {
		return nil
	}
	old, ok := a.Old.(*certificatesv1.PodCertificateRequest)
	if !ok || old == nil {
		return nil
	}
	if !mayUse(ctx, p.env, a, "sign", old.Spec.SignerName) {
		return forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// podCertificate lets a node ask for certificates of the pods that run on it, as they are.
func (n *nodeRestriction) podCertificate(a *Attributes, node string) error {
	if a.Operation != Create || a.Subresource != "" {
		return nil
	}
	r, ok := a.Object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return refuse(a, "unexpected type %T", a.Object)
	}
	if string(r.Spec.NodeName) != node {
		return refuse(a, "PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", r.Spec.NodeName, node)
	}
	return n.podCertificateSubject(a, r, node)
}

// podCertificateSubject compares what a request says with the objects that it names.
func (n *nodeRestriction) podCertificateSubject(a *Attributes, r *certificatesv1.PodCertificateRequest, node string) error {
	name := a.Namespace + "/" + r.Spec.PodName
	host, ok := n.env.Reader.Get(nodes, "", node)
	if !ok {
		return refuse(a, "while retrieving node %q named in the PodCertificateRequest: node %q not found", node, node)
	}
	if host.GetUID() != r.Spec.NodeUID {
		return refuse(a, "PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", name, r.Spec.NodeUID, host.GetUID())
	}
	obj, _ := n.env.Reader.Get(pods, a.Namespace, r.Spec.PodName)
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return refuse(a, "while retrieving pod %q named in the PodCertificateRequest: pod %q not found", name, r.Spec.PodName)
	}
	switch {
	case pod.UID != r.Spec.PodUID:
		return refuse(a, "PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", name, r.Spec.PodUID, pod.UID)
	case pod.Spec.NodeName != node:
		return refuse(a, "pod %q is not running on node %q named in the PodCertificateRequest", name, node)
	case isMirror(pod):
		return refuse(a, "pod %q is a mirror pod", name)
	case pod.Spec.ServiceAccountName != r.Spec.ServiceAccountName:
		return refuse(a, "PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", name, r.Spec.ServiceAccountName, pod.Spec.ServiceAccountName)
	}
	account, ok := n.env.Reader.Get(serviceAccounts, a.Namespace, r.Spec.ServiceAccountName)
	if !ok {
		return refuse(a, "while retrieving service account %q named in the PodCertificateRequest: not found", a.Namespace+"/"+r.Spec.ServiceAccountName)
	}
	if account.GetUID() != r.Spec.ServiceAccountUID {
		return refuse(a, "PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", name, r.Spec.ServiceAccountUID, account.GetUID())
	}
	return nil
}
