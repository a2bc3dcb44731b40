package volumes

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// maxTokenAge is when a token is replaced however long it would live.
const maxTokenAge = 24 * time.Hour

// tokens are the service account tokens of mounted pods, kept in memory until due.
type tokens struct {
	client kubernetes.Interface
	mu     sync.Mutex
	held   map[types.UID]map[tokenKey]token
}

type tokenKey struct {
	audience string
	seconds  int64
}

type token struct {
	text string
	due  time.Time // when to ask for the next
	ends time.Time
}

func newTokens(client kubernetes.Interface) *tokens {
	return &tokens{client: client, held: map[types.UID]map[tokenKey]token{}}
}

func (t *tokens) forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, pod)
}

// get returns a token that is not yet due, asking for one when needed. A refused renewal is no
// error while the held token lives.
func (t *tokens) get(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token, error) {
	k := tokenKey{audience, seconds}
	t.mu.Lock()
	held, ok := t.held[pod.UID][k]
	t.mu.Unlock()
	now := time.Now()
	if ok && now.Before(held.due) {
		return held, nil
	}
	fresh, err := t.request(ctx, pod, audience, seconds)
	if err != nil {
		if ok && now.Before(held.ends) {
			held.due = now.Add(time.Minute)
			return held, nil
		}
		return token{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[pod.UID] == nil {
		t.held[pod.UID] = map[tokenKey]token{}
	}
	t.held[pod.UID][k] = fresh
	return fresh, nil
}

func (t *tokens) request(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token, error) {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	got, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, req, metav1.CreateOptions{})
	if err != nil {
		return token{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	if got.Status.Token == "" {
		return token{}, fmt.Errorf("failed to fetch token: the answer has none")
	}
	now := time.Now()
	ends := got.Status.ExpirationTimestamp.Time
	life := ends.Sub(now)
	return token{text: got.Status.Token, ends: ends, due: now.Add(min(life*8/10, maxTokenAge))}, nil
}

// tokenFile adds a service account token, readable by the pod's one user or group alone where
// it has one, and sees to its renewal.
func (m *Manager) tokenFile(ctx context.Context, pod *corev1.Pod, out files, s *corev1.ServiceAccountTokenProjection, mode fs.FileMode) error {
	seconds := int64(3600)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	tok, err := m.tokens.get(ctx, pod, s.Audience, seconds)
	if err != nil {
		return err
	}
	user := fsUser(pod)
	if user != nil || fsGroup(pod) != nil {
		mode = 0o600
	}
	if err := checkPath(s.Path); err != nil {
		return errPermanent{err}
	}
	out[s.Path] = content{data: []byte(tok.text), mode: mode, user: user}
	m.queue.AddAfter(pod.UID, time.Until(tok.due)+time.Second)
	return nil
}
