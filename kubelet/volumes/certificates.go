package volumes

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// issueWait is how long a mount waits for a signer before it is tried again.
	issueWait = 20 * time.Second
	// renewSpread spreads renewals that would fall together.
	renewSpread = 5 * time.Minute
	// requestAge is after what time a request without an answer is made anew.
	requestAge = 15 * time.Minute
)

// certificates are the keys and certificates of mounted pods, held in memory: after a restart
// each is asked for again.
type certificates struct {
	client   kubernetes.Interface
	node     string
	requests func() lister // of the node's requests; begins to watch them at the first call
	mu       sync.Mutex
	held     map[types.UID]map[certificateKey]*certificate
}

// lister finds an object by namespace and name; nil: it is not known.
type lister func(namespace, name string) any

// certificateKey is one source of one projected volume.
type certificateKey struct {
	volume string
	index  int
}

// certificate is one credential, and the request for the next.
type certificate struct {
	key, chain []byte // PEM; empty: not issued yet
	renew      time.Time
	refused    error // the signer will not issue it
	asked      string
	askedAt    time.Time
	nextKey    []byte
	wake       chan struct{} // closed when something about the request changed
}

func newCertificates(client kubernetes.Interface, node string) *certificates {
	return &certificates{client: client, node: node, held: map[types.UID]map[certificateKey]*certificate{}}
}

func (c *certificates) forget(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, pod)
}

// of answers the pod's credential, as it is held.
func (c *certificates) of(pod types.UID, k certificateKey) *certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[pod] == nil {
		c.held[pod] = map[certificateKey]*certificate{}
	}
	cert := c.held[pod][k]
	if cert == nil {
		cert = &certificate{wake: make(chan struct{})}
		c.held[pod][k] = cert
	}
	return cert
}

// changed wakes those who wait for a certificate of the pod.
func (c *certificates) changed(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cert := range c.held[pod] {
		close(cert.wake)
		cert.wake = make(chan struct{})
	}
}

var errNotIssued = errors.New("credential bundle is not issued yet")

// get answers key and chain, asking the signer where needed. Steps on one pod come one after
// the other. Without a credential to go on with it waits a while for the first.
func (c *certificates) get(ctx context.Context, pod *corev1.Pod, k certificateKey, s *corev1.PodCertificateProjection) (*certificate, error) {
	cert := c.of(pod.UID, k)
	ctx, cancel := context.WithTimeout(ctx, issueWait)
	defer cancel()
	for {
		c.mu.Lock()
		wake := cert.wake
		c.mu.Unlock()
		if err := c.advance(ctx, pod, cert, s); err != nil {
			if len(cert.chain) > 0 && cert.refused == nil {
				cert.renew = time.Now().Add(time.Minute)
				return cert, nil // the one that is held goes on
			}
			return nil, err
		}
		if len(cert.chain) > 0 {
			return cert, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, errNotIssued
		}
	}
}

// advance asks for a certificate when one is due, and takes it over when it is issued.
func (c *certificates) advance(ctx context.Context, pod *corev1.Pod, cert *certificate, s *corev1.PodCertificateProjection) error {
	if cert.refused != nil {
		return cert.refused
	}
	if cert.asked == "" {
		if len(cert.chain) > 0 && time.Now().Before(cert.renew) {
			return nil
		}
		return c.ask(ctx, pod, cert, s)
	}
	req, ok := c.requests()(pod.Namespace, cert.asked).(*certificatesv1.PodCertificateRequest)
	if !ok {
		if time.Since(cert.askedAt) > requestAge {
			cert.asked = "" // somebody deleted it
		}
		return nil
	}
	for i := range req.Status.Conditions {
		switch cond := &req.Status.Conditions[i]; cond.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			cert.refused = errPermanent{fmt.Errorf("PodCertificateRequest was permanently denied: reason=%q message=%q", cond.Reason, cond.Message)}
			return cert.refused
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			cert.refused = errPermanent{fmt.Errorf("PodCertificateRequest was permanently failed: reason=%q message=%q", cond.Reason, cond.Message)}
			return cert.refused
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			return cert.take(req)
		}
	}
	return nil
}

// take makes an issued certificate the one that is held.
func (cert *certificate) take(req *certificatesv1.PodCertificateRequest) error {
	chain, err := normalized([]byte(req.Status.CertificateChain))
	if err != nil {
		return fmt.Errorf("read the issued certificate: %w", err)
	}
	cert.key, cert.chain, cert.asked, cert.nextKey = cert.nextKey, chain, "", nil
	cert.renew = time.Now().Add(time.Hour)
	if at := req.Status.BeginRefreshAt; at != nil {
		cert.renew = at.Add(mathrand.N(renewSpread))
	}
	return nil
}

// ask creates a request with a new key.
func (c *certificates) ask(ctx context.Context, pod *corev1.Pod, cert *certificate, s *corev1.PodCertificateProjection) error {
	c.requests() // watched before there is one
	account, err := c.client.CoreV1().ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the pod's service account: %w", err)
	}
	node, err := c.client.CoreV1().Nodes().Get(ctx, c.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the pod's node: %w", err)
	}
	key, proof, err := newKey(s.KeyType)
	if err != nil {
		return errPermanent{err}
	}
	made, err := c.client.CertificatesV1().PodCertificateRequests(pod.Namespace).Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}}},
		Spec: certificatesv1.PodCertificateRequestSpec{SignerName: s.SignerName, PodName: pod.Name, PodUID: pod.UID,
			ServiceAccountName: pod.Spec.ServiceAccountName, ServiceAccountUID: account.UID, NodeName: types.NodeName(c.node), NodeUID: node.UID,
			MaxExpirationSeconds: s.MaxExpirationSeconds, StubPKCS10Request: proof, UnverifiedUserAnnotations: s.UserAnnotations},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create PodCertificateRequest: %w", err)
	}
	cert.asked, cert.askedAt, cert.nextKey = made.Name, time.Now(), key
	return nil
}

// newKey makes a key, as PEM, and a certificate request without content that proves its possession.
func newKey(kind string) (key, proof []byte, err error) {
	var k crypto.Signer
	switch kind {
	case "RSA3072":
		k, err = rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		k, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("unknown key type %q", kind)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if proof, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k); err != nil {
		return nil, nil, fmt.Errorf("prove the key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), proof, nil
}

// certificateFiles adds a key and its certificate, readable by the pod's one user or group
// alone where it has one, and sees to the renewal.
func (m *Manager) certificateFiles(ctx context.Context, pod *corev1.Pod, out files, k certificateKey, s *corev1.PodCertificateProjection, mode fs.FileMode) error {
	cert, err := m.certificates.get(ctx, pod, k, s)
	if err != nil {
		return err
	}
	user := fsUser(pod)
	if user != nil || fsGroup(pod) != nil {
		mode = 0o600
	}
	for path, data := range map[string][]byte{s.CredentialBundlePath: append(append([]byte(nil), cert.key...), cert.chain...),
		s.KeyPath: cert.key, s.CertificateChainPath: cert.chain} {
		if path == "" {
			continue
		}
		if err := checkPath(path); err != nil {
			return errPermanent{err}
		}
		out[path] = content{data: data, mode: mode, user: user}
	}
	m.queue.AddAfter(pod.UID, max(time.Until(cert.renew), 0)+time.Second)
	return nil
}
