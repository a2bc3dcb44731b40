package aggregate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/store"
)

// The label of APIServices that are made here: those of built-in group versions once at each
// start, those of custom resources always.
const (
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
	onStart      = "onstart"
	always       = "true"
)

const retryRegister = 5 * time.Second

// priority places a group among the groups and a version in its group, higher first.
type priority struct{ group, version int32 }

// customPriority is that of custom resources.
var customPriority = priority{1000, 100}

// groupPriorities are those of the built-in groups, as everywhere.
var groupPriorities = map[string]int32{
	"": 18000, "apiregistration.k8s.io": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
	"autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
	"rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
	"admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500, "node.k8s.io": 16300,
	"discovery.k8s.io": 16200, "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000,
	"storagemigration.k8s.io": 15800, "lifecycle.k8s.io": 15700,
}

// versionPriorities are those that are not 15.
var versionPriorities = map[schema.GroupVersion]int32{
	{Version: "v1"}:                                        1,
	{Group: "autoscaling", Version: "v2"}:                  30,
	{Group: "resource.k8s.io", Version: "v1"}:              21,
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}: 21,
}

func priorityOf(gv schema.GroupVersion) priority {
	p := priority{group: groupPriorities[gv.Group], version: versionPriorities[gv]}
	if p.group == 0 {
		p.group = customPriority.group
	}
	if p.version == 0 {
		p.version = 15
	}
	return p
}

func isCustom(k *api.Kind) bool { return k.Type == reflect.TypeFor[unstructured.Unstructured]() }

// wanted is the APIService of a group version that is answered here. The aggregation's own
// group has none, as everywhere, and neither has what another server may answer for: whoever
// installs that one makes its APIService, and tools such as Helm do not take over another's.
func wanted(gv schema.GroupVersion, custom bool) *apiregistrationv1.APIService {
	if gv.Group == apiregistrationv1.GroupName || gv == metricsv1beta1.SchemeGroupVersion {
		return nil
	}
	p, label := priorityOf(gv), onStart
	if custom {
		p, label = customPriority, always
	}
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group, Labels: map[string]string{managedLabel: label}},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: p.group, VersionPriority: p.version,
		},
	}
}

// register keeps the APIServices of what is answered here.
func (a *Aggregator) register(ctx context.Context) error {
	first := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.local:
		}
		err := a.registerAll(ctx, first)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.log.Warn("register what is served here", "err", err)
			again := time.NewTimer(retryRegister)
			select {
			case <-ctx.Done():
				again.Stop()
				return nil
			case <-again.C:
				a.localChanged()
			}
			continue
		}
		first = false
	}
}

func (a *Aggregator) localChanged() {
	select {
	case a.local <- struct{}{}:
	default:
	}
}

// registerAll makes what is missing, mends what differs and removes what is served no more.
func (a *Aggregator) registerAll(ctx context.Context, first bool) error {
	a.mu.Lock()
	own := maps.Clone(a.own)
	a.mu.Unlock()
	want := map[string]*apiregistrationv1.APIService{}
	for gv, custom := range own {
		if s := wanted(gv, custom); s != nil {
			want[s.Name] = s
		}
	}
	var errs []error
	for _, obj := range a.reader.List(apiServices, "") {
		s, ok := obj.(*apiregistrationv1.APIService)
		if !ok {
			continue
		}
		w := want[s.Name]
		delete(want, s.Name)
		switch label := s.Labels[managedLabel]; {
		case label == "" || label == onStart && !first:
		case w != nil:
			errs = append(errs, a.mend(ctx, s, w))
		case label == onStart || a.customLoaded():
			_, err := a.stored.Delete(ctx, "", s.Name, nil)
			if !errors.Is(err, store.ErrNotFound) {
				errs = append(errs, wrap("delete", s.Name, err))
			}
		}
	}
	for _, s := range want {
		if s.Labels[managedLabel] == always || first {
			errs = append(errs, a.create(ctx, s))
		}
	}
	return errors.Join(errs...)
}

// customLoaded says whether the catalog is known to hold all custom kinds.
func (a *Aggregator) customLoaded() bool {
	if a.cfg.CustomLoaded == nil {
		return true
	}
	select {
	case <-a.cfg.CustomLoaded:
		return true
	default:
		return false
	}
}

func (a *Aggregator) create(ctx context.Context, s *apiregistrationv1.APIService) error {
	s.UID = types.UID(uuid.NewString())
	s.CreationTimestamp = metav1.NewTime(a.cfg.Now()).Rfc3339Copy()
	s.Status.Conditions = []apiregistrationv1.APIServiceCondition{apiregistration.Local()}
	_, err := a.stored.Create(ctx, s)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return wrap("create", s.Name, err)
}

func (a *Aggregator) mend(ctx context.Context, s, want *apiregistrationv1.APIService) error {
	if reflect.DeepEqual(s.Spec, want.Spec) && s.Labels[managedLabel] == want.Labels[managedLabel] {
		return nil
	}
	_, err := a.stored.Update(ctx, "", s.Name, func(cur *store.Item) (api.Object, error) {
		now, ok := cur.Object().(*apiregistrationv1.APIService)
		if !ok {
			return nil, nil
		}
		now = now.DeepCopy()
		now.Spec = want.Spec
		now.Labels[managedLabel] = want.Labels[managedLabel]
		return now, nil
	})
	return wrap("update", s.Name, err)
}

func wrap(action, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s APIService %s: %w", action, name, err)
}
