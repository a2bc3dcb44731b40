package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/store"
)

// Limits of a check.
const (
	attemptTime = 5 * time.Second // of one question
	checkTime   = 6 * time.Second // of all attempts
	attempts    = 5
	attemptWait = 100 * time.Millisecond
	maxAnswer   = 8 << 20  // bytes of a list of resources or an index
	maxSchemas  = 64 << 20 // bytes of an OpenAPI document
)

// Who asks, when no client does.
var (
	self       = &api.User{Name: "system:kube-aggregator", Groups: []string{"system:masters"}}
	schemaUser = &api.User{Name: "system:aggregator", Groups: []string{"system:authenticated"}}
)

// finding is what a check found out.
type finding struct {
	condition apiregistrationv1.APIServiceCondition
	resources []apidiscoveryv2.APIResourceDiscovery
	schemas   string
}

func condition(status apiregistrationv1.ConditionStatus, reason, message string) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{Type: apiregistrationv1.Available, Status: status, Reason: reason, Message: message}
}

func failed(reason, message string) apiregistrationv1.APIServiceCondition {
	return condition(apiregistrationv1.ConditionFalse, reason, message)
}

// check finds out whether a backend is there and what it serves.
func (a *Aggregator) check(ctx context.Context, b *backend) finding {
	if b.broken != nil {
		return finding{condition: failed("FailedDiscoveryCheck", b.broken.Error())}
	}
	if _, why := resolve(a.reader, b.reference); why != nil {
		return finding{condition: failed(why.reason, why.message)}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	path := "/apis/" + b.gv.Group + "/" + b.gv.Version
	list, err := b.askResources(ctx, path)
	if err != nil {
		return finding{condition: failed("FailedDiscoveryCheck", fmt.Sprintf("failing or missing response from %s: %s", b.url(&url.URL{Path: path}), err))}
	}
	return finding{
		condition: condition(apiregistrationv1.ConditionTrue, "Passed", "all checks passed"),
		resources: b.discovered(list), schemas: b.askSchemaHash(ctx, strings.TrimPrefix(path, "/")),
	}
}

// askResources asks until one endpoint answers.
func (b *backend) askResources(ctx context.Context, path string) (list *metav1.APIResourceList, err error) {
	for i := range attempts {
		var raw []byte
		if raw, err = b.get(ctx, self, path, maxAnswer); err == nil {
			list = &metav1.APIResourceList{}
			_ = json.Unmarshal(raw, list) // one that answers anything else is there, and serves nothing
			return list, nil
		}
		b.moved()
		var why *missing
		if errors.As(err, &why) || i == attempts-1 {
			return nil, err
		}
		wait := time.NewTimer(attemptWait)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, err
		case <-wait.C:
		}
	}
	return nil, err
}

// get asks the backend, as a user of this server's own.
func (b *backend) get(ctx context.Context, user *api.User, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	asked, err := url.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", path, err)
	}
	to := b.url(asked)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "proa")
	answer, err := speaker{b.transport, user}.RoundTrip(r) // follows no redirect
	if err != nil {
		return nil, fmt.Errorf("Get %q: %w", to, err) //nolint:staticcheck // as Go's own client says it
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode >= 300 {
		return nil, fmt.Errorf("bad status from %s: %d", to, answer.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", to, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("the answer of %s is longer than %d bytes", to, limit)
	}
	return raw, nil
}

// discovered turns the old list of resources into the aggregated form.
func (b *backend) discovered(list *metav1.APIResourceList) []apidiscoveryv2.APIResourceDiscovery {
	at := map[string]int{}
	var out []apidiscoveryv2.APIResourceDiscovery
	kind := func(r *metav1.APIResource) *metav1.GroupVersionKind {
		k := &metav1.GroupVersionKind{Group: b.gv.Group, Version: b.gv.Version, Kind: r.Kind}
		if r.Version != "" {
			k.Group, k.Version = r.Group, r.Version
		}
		return k
	}
	scope := func(r *metav1.APIResource) apidiscoveryv2.ResourceScope {
		if r.Namespaced {
			return apidiscoveryv2.ScopeNamespace
		}
		return apidiscoveryv2.ScopeCluster
	}
	for i := range list.APIResources {
		if r := &list.APIResources[i]; !strings.Contains(r.Name, "/") {
			at[r.Name] = len(out)
			out = append(out, apidiscoveryv2.APIResourceDiscovery{
				Resource: r.Name, ResponseKind: kind(r), Scope: scope(r), SingularResource: r.SingularName,
				Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
			})
		}
	}
	for i := range list.APIResources {
		r := &list.APIResources[i]
		name, sub, ok := strings.Cut(r.Name, "/")
		if !ok {
			continue
		}
		index, known := at[name]
		if !known { // some serve a subresource alone (custom metrics)
			index, at[name] = len(out), len(out)
			out = append(out, apidiscoveryv2.APIResourceDiscovery{Resource: name, Scope: scope(r), ResponseKind: &metav1.GroupVersionKind{}})
		}
		out[index].Subresources = append(out[index].Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: sub, ResponseKind: kind(r), Verbs: r.Verbs,
		})
	}
	return out
}

// askSchemaHash asks what the backend's OpenAPI v3 document is now; "" when it has none.
func (b *backend) askSchemaHash(ctx context.Context, name string) string {
	raw, err := b.get(ctx, schemaUser, "/openapi/v3", maxAnswer)
	if err != nil {
		return ""
	}
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if json.Unmarshal(raw, &index) != nil {
		return ""
	}
	at, err := url.Parse(index.Paths[name].URL)
	if err != nil {
		return ""
	}
	return at.Query().Get("hash")
}

// describe gives the backend's whole OpenAPI v2 document, as JSON.
func (b *backend) describe(ctx context.Context) ([]byte, error) {
	return b.get(ctx, schemaUser, "/openapi/v2", maxSchemas)
}

// setCondition writes the condition when it says something new of the APIService that was looked at.
func (a *Aggregator) setCondition(ctx context.Context, seen *apiregistrationv1.APIService, c apiregistrationv1.APIServiceCondition) error {
	name := seen.Name
	same := func(s *apiregistrationv1.APIService) bool {
		old := apiregistration.Condition(s, c.Type)
		return old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message
	}
	if same(seen) {
		return nil
	}
	c.LastTransitionTime = metav1.NewTime(a.cfg.Now())
	_, err := a.stored.Update(ctx, "", name, func(cur *store.Item) (api.Object, error) {
		s, ok := cur.Object().(*apiregistrationv1.APIService)
		if !ok || s.UID != seen.UID || !reflect.DeepEqual(s.Spec, seen.Spec) || same(s) {
			return nil, nil // another one by now: it is looked at when it is seen
		}
		s = s.DeepCopy()
		apiregistration.SetCondition(s, c)
		return s, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		a.log.Info("availability of an APIService", "name", name, "available", c.Status, "reason", c.Reason, "message", c.Message)
	}
	return err
}
