package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// Question is what a user is said to be refused.
type Question struct {
	User      string
	Groups    []string
	Verb      string
	Resource  string // TYPE, TYPE/NAME, TYPE.GROUP or /path
	Sub       string
	Namespace string // "" for all
}

// Denied says whether the server allows it, with its reason.
type Denied struct {
	Asked    *access.Attributes
	Allowed  bool
	Reason   string
	Nearest  []access.Near
	Granting []string // cluster roles that would allow it
}

// WhyDenied asks the server, and looks for the rules that are nearest to allowing it.
func WhyDenied(ctx context.Context, p *Place, q Question) (*Denied, error) {
	client, err := adminClient(p)
	if err != nil {
		return nil, err
	}
	a, err := q.attributes(client)
	if err != nil {
		return nil, err
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: a.User.Name, Groups: a.User.Groups}}
	if a.Resource {
		review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: a.Namespace, Verb: a.Verb, Group: a.Group,
			Version: a.Version, Resource: a.Plural, Subresource: a.Subresource, Name: a.Name}
	} else {
		review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
	}
	review, err = client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	d := &Denied{Asked: a, Allowed: review.Status.Allowed, Reason: cmp.Or(review.Status.Reason, review.Status.EvaluationError)}
	if d.Allowed {
		return d, nil
	}
	policy, err := readPolicy(ctx, client)
	if err != nil {
		return nil, err
	}
	d.Nearest, d.Granting = policy.Nearest(a, 3), policy.Granting(a)
	return d, nil
}

func (q Question) attributes(client kubernetes.Interface) (*access.Attributes, error) {
	u := &api.User{Name: q.User, Groups: slices.Clone(q.Groups)}
	if ns, _, ok := access.SplitServiceAccount(q.User); ok {
		u.Groups = append(u.Groups, "system:serviceaccounts", "system:serviceaccounts:"+ns)
	}
	if !slices.Contains(u.Groups, access.Authenticated) && u.Name != access.Anonymous {
		u.Groups = append(u.Groups, access.Authenticated)
	}
	if strings.HasPrefix(q.Resource, "/") {
		return &access.Attributes{User: u, Verb: strings.ToLower(q.Verb), Path: q.Resource}, nil
	}
	kind, name, _ := strings.Cut(q.Resource, "/")
	lists, err := restmapper.GetAPIGroupResources(client.Discovery())
	if err != nil {
		return nil, fmt.Errorf("ask the server for its kinds: %w", err)
	}
	given := schema.ParseGroupResource(strings.ToLower(kind))
	found, err := restmapper.NewDiscoveryRESTMapper(lists).ResourceFor(given.WithVersion(""))
	if err != nil {
		return nil, fmt.Errorf("%s: the server has no such kind (%w)", kind, err)
	}
	return &access.Attributes{User: u, Resource: true, Verb: strings.ToLower(q.Verb), Group: found.Group, Version: found.Version,
		Plural: found.Resource, Subresource: q.Sub, Namespace: q.Namespace, Name: name}, nil
}

func readPolicy(ctx context.Context, client kubernetes.Interface) (*access.Policy, error) {
	c, p := client.RbacV1(), &access.Policy{}
	roles, err := c.Roles(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	clusterRoles, err := c.ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list cluster roles: %w", err)
	}
	bindings, err := c.RoleBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list role bindings: %w", err)
	}
	clusterBindings, err := c.ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list cluster role bindings: %w", err)
	}
	p.Roles, p.ClusterRoles, p.RoleBindings, p.ClusterRoleBindings = roles.Items, clusterRoles.Items, bindings.Items, clusterBindings.Items
	return p, nil
}
