package cluster

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/pki"
)

// adminName is the user of the administrator's kubeconfig, by which these commands work.
const adminName = "kubernetes-admin"

// certificateWait is how long a certificate may take to be signed.
const certificateWait = 30 * time.Second

// CreateUser asks the cluster for a client certificate (a CertificateSigningRequest,
// approved as the administrator) and gives a kubeconfig with it. The key never leaves this
// machine. The user may do nothing until a role is bound to it or to one of its groups.
func CreateUser(ctx context.Context, p *Place, name string, groups []string, life time.Duration) ([]byte, error) {
	if err := validUser(name); err != nil {
		return nil, err
	}
	client, err := adminClient(p)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	cert, err := certify(ctx, client, key, name, groups, life)
	if err != nil {
		return nil, err
	}
	leaf, err := pki.DecodeCert(cert)
	if err != nil {
		return nil, err
	}
	err = changeRecord(ctx, client, name, func(r *access.UserRecord) {
		r.Groups, r.Made, r.Expires = groups, metav1.Now(), metav1.NewTime(leaf.NotAfter)
		if !r.Revoked.IsZero() {
			sum := sha256.Sum256(leaf.Raw)
			r.Except = append(r.Except, hex.EncodeToString(sum[:]))
		}
	})
	if err != nil {
		return nil, err
	}
	return kubeconfigOf(p, name, cert, key)
}

func validUser(name string) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("user %q: the name must not be empty or begin or end with a blank", name)
	case strings.HasPrefix(name, "system:"):
		return fmt.Errorf("user %q: names that begin with system: belong to the cluster's own parts", name)
	case name == adminName:
		return fmt.Errorf("user %q is the administrator of this machine's kubeconfig", name)
	}
	return nil
}

func kubeconfigOf(p *Place, name string, cert []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	admin, err := clientcmd.LoadFromFile(p.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	current := admin.Contexts[admin.CurrentContext]
	if current == nil || admin.Clusters[current.Cluster] == nil {
		return nil, fmt.Errorf("%s has no current context", p.Kubeconfig())
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	cluster := admin.Clusters[current.Cluster]
	return pki.Kubeconfig{
		Cluster: current.Cluster, User: name, Server: cluster.Server, CA: cluster.CertificateAuthorityData,
		Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
	}.Encode()
}

// certify makes a request, approves it, and waits until it is signed.
func certify(ctx context.Context, client kubernetes.Interface, key *ecdsa.PrivateKey, name string, groups []string, life time.Duration) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: groups}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, certificateWait)
	defer cancel()
	requests, seconds := client.CertificatesV1().CertificateSigningRequests(), int32(life.Seconds())
	csr, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "proa-user-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificatesv1.KubeAPIServerClientSignerName, ExpirationSeconds: &seconds,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "ProaUserCreate", Message: "approved by the administrator's command",
	})
	if csr, err = requests.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("approve the certificate: %w", err)
	}
	return signed(ctx, client, csr)
}

func signed(ctx context.Context, client kubernetes.Interface, csr *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	w, err := client.CertificatesV1().CertificateSigningRequests().Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", csr.Name).String(), ResourceVersion: csr.ResourceVersion,
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the certificate: %w", err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		now, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok {
			continue
		}
		if len(now.Status.Certificate) > 0 {
			return now.Status.Certificate, nil
		}
		for _, c := range now.Status.Conditions {
			if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
				return nil, fmt.Errorf("the certificate was refused: %s", cmp.Or(c.Message, c.Reason))
			}
		}
	}
	return nil, fmt.Errorf("the certificate was not signed within %v", certificateWait)
}

// Users gives the records of the users that were made or revoked, by name.
func Users(ctx context.Context, p *Place) ([]access.UserRecord, error) {
	client, err := adminClient(p)
	if err != nil {
		return nil, err
	}
	list, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, access.UserRecords, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	var out []access.UserRecord
	for key, value := range list.Data {
		r, err := access.DecodeUserRecord(value)
		if err != nil {
			return nil, fmt.Errorf("configmap %s: key %s: %w", access.UserRecords, key, err)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b access.UserRecord) int { return cmp.Compare(a.User, b.User) })
	return out, nil
}

// RevokeUser refuses all certificates that the user has, with the next request of each.
func RevokeUser(ctx context.Context, p *Place, name string) error {
	if err := validUser(name); err != nil {
		return err
	}
	client, err := adminClient(p)
	if err != nil {
		return err
	}
	return changeRecord(ctx, client, name, func(r *access.UserRecord) { r.Revoked, r.Except = metav1.Now(), nil })
}

func changeRecord(ctx context.Context, client kubernetes.Interface, user string, change func(*access.UserRecord)) error {
	maps, key, name := client.CoreV1().ConfigMaps(metav1.NamespaceSystem), access.UserRecordKey(user), access.RecordsOf(user)
	always := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	err := retry.OnError(retry.DefaultRetry, always, func() error {
		list, err := maps.Get(ctx, name, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if missing {
			list, err = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceSystem}}, nil
		}
		if err != nil {
			return err
		}
		r := access.UserRecord{}
		if value, ok := list.Data[key]; ok {
			if r, err = access.DecodeUserRecord(value); err != nil {
				return fmt.Errorf("configmap %s: key %s: %w", name, key, err)
			}
		}
		r.User = user
		change(&r)
		value, err := r.Encode()
		if err != nil {
			return err
		}
		if list.Data == nil {
			list.Data = map[string]string{}
		}
		list.Data[key] = value
		if name == access.NodeRecords {
			forget(list.Data, time.Now())
		}
		if missing {
			_, err = maps.Create(ctx, list, metav1.CreateOptions{})
		} else {
			_, err = maps.Update(ctx, list, metav1.UpdateOptions{})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write the record of user %q: %w", user, err)
	}
	return nil
}
