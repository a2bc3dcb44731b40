package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

type signs struct{ life atomic.Int64 }

func (s *signs) Sign(_ []byte, _ []string, life time.Duration) ([]byte, error) {
	s.life.Store(int64(life))
	return []byte("signed"), nil
}

func requestOf(t *testing.T, name, signer, user string, x x509.CertificateRequest, usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Now()},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
			Username: user, Groups: []string{nodesGroup}, Usages: usages,
		},
	}
}

func TestRequests(t *testing.T) {
	node := func(cn string, dns ...string) x509.CertificateRequest {
		return x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: []string{nodesGroup}}, DNSNames: dns}
	}
	withIP := node(nodePrefix+"n1", "n1")
	withIP.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
	foreignIP := node(nodePrefix+"n1", "n1")
	foreignIP.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 9)}
	ds, ca, sa := certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth, certificatesv1.UsageServerAuth
	kubelet, serving := certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName
	cases := []struct {
		name, signer, user string
		x                  x509.CertificateRequest
		usages             []certificatesv1.KeyUsage
		approved           bool // by a person, beforehand
		want               state
	}{
		{"self", kubelet, nodePrefix + "n1", node(nodePrefix + "n1"), []certificatesv1.KeyUsage{ds, ca}, false, issued},
		{"bootstrap", kubelet, "system:bootstrap:abc", node(nodePrefix + "n2"), []certificatesv1.KeyUsage{ds, ca}, false, issued},
		{"stranger", kubelet, "jane", node(nodePrefix + "n2"), []certificatesv1.KeyUsage{ds, ca}, false, pending},
		{"client-with-dns", kubelet, nodePrefix + "n1", node(nodePrefix+"n1", "n1"), []certificatesv1.KeyUsage{ds, ca}, false, pending},
		{"serving", serving, nodePrefix + "n1", withIP, []certificatesv1.KeyUsage{ds, sa}, false, issued},
		{"serving-other-ip", serving, nodePrefix + "n1", foreignIP, []certificatesv1.KeyUsage{ds, sa}, false, pending},
		{"serving-other-node", serving, nodePrefix + "n2", withIP, []certificatesv1.KeyUsage{ds, sa}, false, pending},
		{"serving-unregistered", serving, nodePrefix + "n3", node(nodePrefix+"n3", "n3"), []certificatesv1.KeyUsage{ds, sa}, false, issued},
		{"serving-unregistered-odd", serving, nodePrefix + "n3", node(nodePrefix+"n3", "n3", "kubernetes.default"), []certificatesv1.KeyUsage{ds, sa}, false, pending},
		{"user", certificatesv1.KubeAPIServerClientSignerName, "jane", node("jane"), []certificatesv1.KeyUsage{ca}, true, issued},
		{"user-wrong", certificatesv1.KubeAPIServerClientSignerName, "jane", node("jane"), []certificatesv1.KeyUsage{sa}, true, refused},
		{"user-pending", certificatesv1.KubeAPIServerClientSignerName, "jane", node("jane"), []certificatesv1.KeyUsage{ca}, false, pending},
	}
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
		}})
		client.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
			r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
			r.Status.Allowed = r.Spec.User == "system:bootstrap:abc" || r.Spec.ResourceAttributes.Subresource == "selfnodeclient"
			return true, r, nil
		})
		for _, c := range cases {
			r := requestOf(t, c.name, c.signer, c.user, c.x, c.usages...)
			if c.approved {
				r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, LastUpdateTime: metav1.Now()}}
			}
			if err := client.Tracker().Add(r); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		factory := informers.New(client, nil)
		signer := &signs{}
		ctl, err := New(loop.Deps{Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Signer: signer})
		if err != nil {
			t.Fatal(err)
		}
		factory.StartWithContext(ctx)
		done := make(chan error, 1)
		go func() { done <- ctl.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		for _, c := range cases {
			r, err := client.CertificatesV1().CertificateSigningRequests().Get(ctx, c.name, metav1.GetOptions{})
			if err != nil || stateOf(r) != c.want {
				t.Errorf("%s: state %v, want %v (%v)", c.name, stateOf(r), c.want, err)
			}
		}
		if time.Duration(signer.life.Load()) != defaultLife {
			t.Errorf("life %v", time.Duration(signer.life.Load()))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if _, err := client.CertificatesV1().CertificateSigningRequests().Get(ctx, "self", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("an old request stays: %v", err)
		}
		if _, err := client.CertificatesV1().CertificateSigningRequests().Get(ctx, "stranger", metav1.GetOptions{}); err != nil {
			t.Errorf("a pending request is gone: %v", err)
		}
		cancel()
		factory.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
