package access

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

var (
	serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	pods            = schema.GroupResource{Resource: "pods"}
	secrets         = schema.GroupResource{Resource: "secrets"}
	nodes           = schema.GroupResource{Resource: "nodes"}
)

// deletedLeeway is how long after its deletion an object still vouches for its tokens.
const deletedLeeway = time.Minute

// bound checks that the objects a token is bound to are there still, and gives its user.
func (t *Tokens) bound(c *tokenClaims) (*api.User, error) {
	k := c.Kubernetes
	if err := t.alive(serviceAccounts, "service account", k.Namespace, &k.ServiceAccount); err != nil {
		return nil, err
	}
	if err := t.alive(secrets, "secret", k.Namespace, k.Secret); err != nil {
		return nil, err
	}
	if err := t.alive(pods, "pod", k.Namespace, k.Pod); err != nil {
		return nil, err
	}
	if k.Pod == nil { // of a pod's token the node is only told, not checked
		if err := t.alive(nodes, "node", "", k.Node); err != nil {
			return nil, err
		}
	}
	return c.user, nil
}

func accountUser(c *tokenClaims) *api.User {
	k := c.Kubernetes
	u := &api.User{
		Name: c.Subject, UID: string(k.ServiceAccount.UID),
		Groups: []string{serviceAccountsGroup, serviceAccountsGroup + ":" + k.Namespace, Authenticated},
		Extra:  map[string][]string{},
	}
	if c.ID != "" {
		u.Extra[extraCredential] = []string{"JTI=" + c.ID}
	}
	if k.Pod != nil {
		u.Extra[extraPodName], u.Extra[extraPodUID] = []string{k.Pod.Name}, []string{string(k.Pod.UID)}
	}
	if k.Node != nil {
		u.Extra[extraNodeName] = []string{k.Node.Name}
		if k.Node.UID != "" {
			u.Extra[extraNodeUID] = []string{string(k.Node.UID)}
		}
	}
	return u
}

func (t *Tokens) alive(kind schema.GroupResource, what, namespace string, want *objectRef) error {
	if want == nil {
		return nil
	}
	name := want.Name
	if namespace != "" {
		name = namespace + "/" + name
	}
	obj, ok := api.Sure(t.reader, kind, namespace, want.Name)
	if !ok {
		return fmt.Errorf("%w: %s %s has been deleted", ErrToken, what, name)
	}
	if at := obj.GetDeletionTimestamp(); at != nil && at.Time.Before(t.now().Add(-deletedLeeway)) {
		return fmt.Errorf("%w: %s %s has been deleted", ErrToken, what, name)
	}
	if want.UID != "" && obj.GetUID() != want.UID {
		return fmt.Errorf("%w: %s UID (%s) does not match claim (%s)", ErrToken, what, obj.GetUID(), want.UID)
	}
	return nil
}
