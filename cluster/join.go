package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/proa-dev/proa/pki"
)

// credentials is what an agent has of a cluster: whom to believe, and its certificates.
type credentials struct {
	ca              []byte // PEM
	trust           *x509.CertPool
	client, serving *pki.Renewing
	servers         *endpoints
}

// nodeJournal is the record of an agent's changes to the machine.
func (p *Place) nodeJournal(node string) string { return filepath.Join(p.Dir(), node+".host.journal") }

// join gets credentials: those of a former join from disk, or new ones with the token. The
// server is verified before anything is sent to it.
func join(ctx context.Context, cfg AgentConfig, log *slog.Logger) (*credentials, error) {
	dir := filepath.Join(cfg.Place.NodeDir(cfg.Node.Name), "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c := &credentials{}
	var bootstrap *rest.Config
	var err error
	if c.servers, err = newEndpoints(cfg.Server, filepath.Join(dir, serversName), log); err != nil {
		return nil, err
	}
	c.ca, err = os.ReadFile(filepath.Join(dir, "ca.crt"))
	if errors.Is(err, fs.ErrNotExist) || cfg.Token != "" && !usable(filepath.Join(dir, "kubelet-client")) {
		if c.ca, bootstrap, err = firstContact(ctx, cfg); err == nil {
			err = WriteFile(filepath.Join(dir, "ca.crt"), c.ca, 0o644)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := c.refreshCA(ctx, filepath.Join(dir, "ca.crt")); err != nil {
		log.Warn("the authority's certificate ends and there is none to follow it yet", "err", err)
	}
	fresh := bootstrap != nil
	c.trust = x509.NewCertPool()
	if !c.trust.AppendCertsFromPEM(c.ca) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(dir, "ca.crt"))
	}
	node := "system:node:" + cfg.Node.Name
	asNode := func() *rest.Config { return c.config(cfg.Server) }
	c.client, err = renewing(ctx, filepath.Join(dir, "kubelet-client"), log, func() *rest.Config {
		if bootstrap != nil {
			b := bootstrap
			bootstrap = nil
			return b
		}
		return asNode()
	}, request{
		signer: certificatesv1.KubeAPIServerClientKubeletSignerName, usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		template: x509.CertificateRequest{Subject: subject(node)},
	})
	if err != nil {
		return nil, fmt.Errorf("get a client certificate: %w", err)
	}
	if cfg.Token != "" && !fresh && refused(ctx, asNode()) {
		// The node was deleted: its former certificate counts no longer, the token does.
		if err := forgetJoin(dir); err != nil {
			return nil, err
		}
		return join(ctx, cfg, log)
	}
	c.serving, err = renewing(ctx, filepath.Join(dir, "kubelet-serving"), log, asNode, request{
		signer: certificatesv1.KubeletServingSignerName, usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		template: x509.CertificateRequest{Subject: subject(node), DNSNames: []string{cfg.Node.Name}, IPAddresses: []net.IP{toIP(cfg.Node.IP)}},
	})
	if err != nil {
		return nil, fmt.Errorf("get a serving certificate: %w", err)
	}
	return c, nil
}

// refreshCA takes over the authority's next certificate once the one at hand is old.
func (c *credentials) refreshCA(ctx context.Context, path string) error {
	known, err := pki.DecodeCert(c.ca)
	if err != nil || !pki.Due(known, time.Now()) {
		return err
	}
	var next []byte
	for _, server := range c.servers.order() { // any will do
		if next, err = pki.RefreshCA(ctx, "https://"+server, known); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	c.ca = next
	return WriteFile(path, next, 0o644)
}

// usable says whether a node that was away still has a certificate to come back with.
func usable(base string) bool {
	_, err := pki.LoadPair(base+".crt", base+".key", time.Now())
	return err == nil
}

// refused asks the server whether it lets this certificate in; any other trouble is for
// those who come after.
func refused(ctx context.Context, cfg *rest.Config) bool {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return apierrors.IsUnauthorized(client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error())
}

// forgetJoin removes what a former join left, the authority's certificate first: without it
// the next join begins anew.
func forgetJoin(dir string) error {
	for _, name := range []string{"ca.crt", "kubelet-client.crt", "kubelet-client.key", "kubelet-serving.crt", "kubelet-serving.key", serversName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a former join: %w", err)
		}
	}
	return nil
}

func subject(node string) pkix.Name {
	return pkix.Name{CommonName: node, Organization: []string{"system:nodes"}}
}

// firstContact verifies the server by the token's fingerprint of its CA.
func firstContact(ctx context.Context, cfg AgentConfig) ([]byte, *rest.Config, error) {
	if cfg.Token == "" {
		return nil, nil, errors.New("--token is needed the first time: 'proa token create' on the server prints one")
	}
	token, err := pki.ParseJoinToken(cfg.Token)
	if err != nil {
		return nil, nil, err
	}
	ca, err := pki.FetchCA(ctx, cfg.Server, token)
	if err != nil {
		return nil, nil, err
	}
	return ca, &rest.Config{
		Host: cfg.Server, BearerToken: token.Bearer(), TLSClientConfig: rest.TLSClientConfig{CAData: ca}, UserAgent: "proa-agent/" + ProaVersion,
	}, nil
}

// request is a certificate that is asked for.
type request struct {
	signer   string
	usages   []certificatesv1.KeyUsage
	template x509.CertificateRequest
}

// renewing keeps a certificate on disk (base.crt, base.key) and asks for the next one in time.
func renewing(ctx context.Context, base string, log *slog.Logger, config func() *rest.Config, want request) (*pki.Renewing, error) {
	issue := func(ctx context.Context) (*tls.Certificate, error) {
		cert, key, err := askFor(ctx, config(), want)
		if err != nil {
			return nil, err
		}
		if err := WriteFile(base+".key", key, 0o600); err != nil {
			return nil, err
		}
		if err := WriteFile(base+".crt", cert, 0o644); err != nil {
			return nil, err
		}
		return pki.LoadPair(base+".crt", base+".key", time.Now())
	}
	pair, err := pki.LoadPair(base+".crt", base+".key", time.Now())
	if err != nil {
		if pair, err = issue(ctx); err != nil {
			return nil, err
		}
	}
	return pki.NewRenewing(pair, issue, nil, log)
}

// joinTimeout bounds the wait for a certificate to be approved and signed.
const joinTimeout = 30 * time.Second

// askFor sends a certificate request and waits for the answer.
func askFor(ctx context.Context, cfg *rest.Config, want request) (cert, key []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &want.template, private)
	if err != nil {
		return nil, nil, err
	}
	if der != nil {
		raw, err := x509.MarshalECPrivateKey(private)
		if err != nil {
			return nil, nil, err
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
	}
	requests := client.CertificatesV1().CertificateSigningRequests()
	csr, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: want.signer, Usages: want.usages,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, nil, err
	}
	w, err := requests.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", csr.Name).String(), ResourceVersion: csr.ResourceVersion})
	if err != nil {
		return nil, nil, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		now, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok {
			continue
		}
		for _, c := range now.Status.Conditions {
			if c.Type != certificatesv1.CertificateApproved && c.Status == corev1.ConditionTrue {
				return nil, nil, fmt.Errorf("the request %s was refused: %s", now.Name, c.Message)
			}
		}
		if len(now.Status.Certificate) > 0 {
			return now.Status.Certificate, key, nil
		}
	}
	return nil, nil, fmt.Errorf("the request %s was not answered in %s", csr.Name, joinTimeout)
}
