package access

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// Form of a bootstrap token (id.secret) and of the Secret that holds it.
const (
	bootstrapID     = 6
	bootstrapSecret = 16
	bootstrapChars  = "abcdefghijklmnopqrstuvwxyz0123456789"
	bootstrapName   = "bootstrap-token-"
	bootstrapType   = corev1.SecretTypeBootstrapToken
)

func splitBootstrap(token string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(token, ".")
	ok = ok && len(id) == bootstrapID && len(secret) == bootstrapSecret && strings.Trim(id+secret, bootstrapChars) == ""
	return id, secret, ok
}

// Bootstrap tells whose bootstrap token (id.secret) this is. ErrToken.
func (t *Tokens) Bootstrap(token string) (*api.User, error) {
	id, secret, ok := splitBootstrap(token)
	if !ok {
		return nil, ErrToken
	}
	return t.bootstrap(id, secret)
}

// BearerToken is the token in an Authorization header; empty: there is none.
func BearerToken(header string) string { return bearerToken(header) }

// bootstrap accepts a token kept in a Secret of kube-system, until it expires or is deleted.
func (t *Tokens) bootstrap(id, secret string) (*api.User, error) {
	obj, ok := t.reader.Get(secrets, metav1.NamespaceSystem, bootstrapName+id)
	s, isSecret := obj.(*corev1.Secret)
	if !ok || !isSecret || s.DeletionTimestamp != nil || s.Type != bootstrapType {
		return nil, ErrToken
	}
	if subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secret)) != 1 || string(s.Data["token-id"]) != id {
		return nil, ErrToken
	}
	if string(s.Data["usage-bootstrap-authentication"]) != "true" {
		return nil, ErrToken
	}
	if end := string(s.Data["expiration"]); end != "" {
		at, err := time.Parse(time.RFC3339, end)
		if err != nil || !at.After(t.now()) {
			return nil, fmt.Errorf("%w: bootstrap token %s has expired", ErrToken, id)
		}
	}
	groups := []string{Bootstrappers}
	for g := range strings.SplitSeq(string(s.Data["auth-extra-groups"]), ",") {
		if g = strings.TrimSpace(g); g == "" {
			continue
		}
		if !strings.HasPrefix(g, Bootstrappers+":") {
			return nil, fmt.Errorf("%w: bootstrap token %s has a group that is not below %s:", ErrToken, id, Bootstrappers)
		}
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return &api.User{Name: bootstrapPrefix + id, Groups: groups}, nil
}
