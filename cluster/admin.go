package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/pki"
)

// adminClient is a client with the administrator's kubeconfig.
func adminClient(p *Place) (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = 100, 200
	return kubernetes.NewForConfig(cfg)
}

// ServerAddress is where the API of a cluster answers, as the administrator's kubeconfig has it.
func ServerAddress(p *Place) (string, error) { return serverOf(p.Kubeconfig()) }

// serverOf reads the API's address from a kubeconfig.
func serverOf(kubeconfig string) (string, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	return cfg.Host, nil
}

// CreateToken makes a join token that is valid for ttl (a bootstrap token, as kubeadm's,
// with the fingerprint of the CA), for nodes or, if server, for servers: those are given all
// keys of the cluster.
func CreateToken(ctx context.Context, p *Place, ttl time.Duration, server bool) (string, error) {
	client, err := adminClient(p)
	if err != nil {
		return "", err
	}
	authorities, err := pki.Open(pki.Config{Dir: p.PKI()})
	if err != nil {
		return "", err
	}
	token, err := pki.NewJoinToken(authorities.CA.Cert)
	if err != nil {
		return "", err
	}
	group, what := access.DefaultNodesGroup, "nodes"
	if server {
		group, what = access.ServersGroup, "servers"
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + token.ID, Namespace: metav1.NamespaceSystem},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": token.ID, "token-secret": token.Secret,
			"expiration":                     time.Now().Add(ttl).UTC().Format(time.RFC3339),
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              group,
			"description":                    "made by proa token create, for " + what,
		},
	}
	if _, err := client.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create join token: %w", err)
	}
	return token.String(), nil
}
