// Package certificates approves the requests that kubelets make for themselves, signs
// approved requests for the cluster's own signers, and removes old ones.
//
// The one idea: a request is looked at as a whole each time it changes, and what is next
// for it (approve, sign, refuse, remove at a time) follows from the object alone.
//
// Used by controllers.All.
package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	certlisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/csr"
)

// Lives of certificates.
const (
	defaultLife = 365 * 24 * time.Hour
	shortLife   = 10 * time.Minute
)

type request = *certificatesv1.CertificateSigningRequest

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps     loop.Deps
	requests certlisters.CertificateSigningRequestLister
	nodes    corelisters.NodeLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	if deps.Signer == nil {
		return nil, errors.New("certificates: no signer")
	}
	requests, nodes := deps.Informers.Certificates().V1().CertificateSigningRequests(), deps.Informers.Core().V1().Nodes()
	c := &Controller{deps: deps, requests: requests.Lister(), nodes: nodes.Lister()}
	c.Loop = loop.New("certificates", deps, c.reconcile)
	c.Watch(requests.Informer(), func(obj any) []string {
		k, _ := loop.KeyOf(obj)
		return []string{k.Name}
	})
	c.Watch(nodes.Informer(), c.ofNode)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

// ofNode finds the requests that wait for a node's addresses.
func (c *Controller) ofNode(obj any) []string {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return nil
	}
	all, err := c.requests.List(labels.Everything())
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	var out []string
	for _, r := range all {
		if r.Spec.SignerName == certificatesv1.KubeletServingSignerName && r.Spec.Username == nodePrefix+node.Name && stateOf(r) == pending {
			out = append(out, r.Name)
		}
	}
	return out
}

type state int

const (
	pending state = iota
	approved
	issued
	refused // denied or failed
)

func stateOf(r request) state {
	s := pending
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			return refused
		case certificatesv1.CertificateApproved:
			s = approved
		}
	}
	if s == approved && len(r.Status.Certificate) > 0 {
		return issued
	}
	return s
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	r, err := c.requests.Get(name)
	if err != nil || r.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	if wait := removal(r).Sub(c.deps.Clock.Now()); wait <= 0 {
		return loop.Gone(c.deps.Client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name,
			metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))}))
	} else {
		c.AddAfter(name, wait)
	}
	switch stateOf(r) {
	case pending:
		return loop.Gone(c.approve(ctx, r))
	case approved:
		return loop.Gone(c.sign(ctx, r))
	}
	return nil
}

// sign issues the certificate, or says why this signer never will.
func (c *Controller) sign(ctx context.Context, r request) error {
	check, ok := signers[r.Spec.SignerName]
	if !ok {
		return nil // somebody else's
	}
	x, err := parse(r.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr %q: %w", r.Name, err)
	}
	changed := r.DeepCopy()
	if err := check(x, r.Spec.Usages); err != nil {
		now := metav1.NewTime(c.deps.Clock.Now())
		changed.Status.Conditions = append(changed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
			Reason: "SignerValidationFailure", Message: err.Error(), LastUpdateTime: now, LastTransitionTime: now,
		})
	} else {
		usages := make([]string, len(r.Spec.Usages))
		for i, u := range r.Spec.Usages {
			usages[i] = string(u)
		}
		if changed.Status.Certificate, err = c.deps.Signer.Sign(x.Raw, usages, life(r.Spec.ExpirationSeconds)); err != nil {
			return fmt.Errorf("sign csr %q: %w", r.Name, err)
		}
	}
	_, err = c.deps.Client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}

// life is what is asked for, within what is given.
func life(seconds *int32) time.Duration {
	if seconds == nil {
		return defaultLife
	}
	return min(max(time.Duration(*seconds)*time.Second, shortLife), defaultLife)
}

func parse(request []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	x, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return x, csr.Verify(x)
}

// How long requests stay, by what became of them.
const (
	stayPending = 24 * time.Hour
	stayDone    = time.Hour
)

// removal is when a request is of no more use.
func removal(r request) time.Time {
	at := r.CreationTimestamp.Add(stayPending)
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			since := c.LastUpdateTime
			if since.IsZero() {
				since = r.CreationTimestamp
			}
			at = since.Add(stayDone)
		}
	}
	if block, _ := pem.Decode(r.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && cert.NotAfter.Before(at) {
			return cert.NotAfter
		}
	}
	return at
}
