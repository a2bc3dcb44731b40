package volumes

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// sign issues a certificate for the key that the request proves.
func sign(t *testing.T, req *certificatesv1.PodCertificateRequest) string {
	csr, err := x509.ParseCertificateRequest(req.Spec.StubPKCS10Request)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the request proves nothing: %v", err)
		return ""
	}
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
		return ""
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, csr.PublicKey, ca)
	if err != nil {
		t.Error(err)
	}
	return "a comment\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificate(t *testing.T) {
	client := fake.NewClientset(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "sa", UID: "u1"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u2"}})
	names := 0 // the fake server generates none
	client.PrependReactor("create", "podcertificaterequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
		names++
		a.(clienttesting.CreateAction).GetObject().(*certificatesv1.PodCertificateRequest).Name = fmt.Sprint("req-", names)
		return false, nil, nil
	})
	m, err := New(Config{Root: t.TempDir(), Client: client, NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() { cancel(); <-done }()
	requests := client.CertificatesV1().PodCertificateRequests("d")
	w, err := requests.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for e := range w.ResultChan() {
			req, ok := e.Object.(*certificatesv1.PodCertificateRequest)
			if !ok || len(req.Status.Conditions) > 0 {
				continue
			}
			at := metav1.NewTime(time.Now().Add(time.Hour))
			req = req.DeepCopy()
			req.Status = certificatesv1.PodCertificateRequestStatus{CertificateChain: sign(t, req), BeginRefreshAt: &at,
				Conditions: []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeIssued, Status: metav1.ConditionTrue}}}
			if req.Spec.UnverifiedUserAnnotations["refuse"] != "" {
				req.Status.CertificateChain, req.Status.Conditions[0].Type = "", certificatesv1.PodCertificateRequestConditionTypeDenied
			}
			if _, err := requests.UpdateStatus(ctx, req, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
		}
	}()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p", UID: "u3"}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
	for _, kind := range []string{"ED25519", "ECDSAP256"} {
		out := files{}
		s := &corev1.PodCertificateProjection{SignerName: "x/y", KeyType: kind, CredentialBundlePath: "b.pem", KeyPath: "k", CertificateChainPath: "c"}
		if err := m.certificateFiles(ctx, pod, out, certificateKey{kind, 0}, s, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := tls.X509KeyPair(out["c"].data, out["k"].data); err != nil {
			t.Errorf("%s: key and certificate: %v", kind, err)
		}
		if !bytes.Equal(out["b.pem"].data, append(append([]byte(nil), out["k"].data...), out["c"].data...)) || bytes.Contains(out["c"].data, []byte("comment")) {
			t.Errorf("%s: the bundle is not the key and the chain", kind)
		}
		cert := m.certificates.of(pod.UID, certificateKey{kind, 0})
		cert.renew = time.Time{}
		had := string(cert.chain)
		for range 1000 {
			if err := m.certificateFiles(ctx, pod, out, certificateKey{kind, 0}, s, 0o644); err != nil {
				t.Fatal(err)
			}
			if string(cert.chain) != had {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if string(cert.chain) == had {
			t.Errorf("%s: not renewed", kind)
		}
	}
	err = m.certificateFiles(ctx, pod, files{}, certificateKey{"no", 0}, &corev1.PodCertificateProjection{SignerName: "x/y", KeyType: "ED25519", UserAnnotations: map[string]string{"refuse": "1"}}, 0o644)
	if !IsPermanent(err) {
		t.Errorf("refused: %v", err)
	}
}
