package horizontalpodautoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/proa-dev/proa/controllers/loop"
)

// remote is what is asked of the API beside watching. Values are in thousandths.
type remote interface {
	Scale(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference) (*autoscalingv1.Scale, error)
	SetScale(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference, scale *autoscalingv1.Scale) error
	// Usage is what pods use of a resource, by name; of one container unless that is "".
	Usage(ctx context.Context, namespace string, pods labels.Selector, name corev1.ResourceName, container string) (map[string]sample, error)
	PodMetric(ctx context.Context, namespace string, pods labels.Selector, m autoscalingv2.MetricIdentifier) (map[string]sample, error)
	ObjectMetric(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference, m autoscalingv2.MetricIdentifier) (int64, error)
	External(ctx context.Context, namespace string, m autoscalingv2.MetricIdentifier) ([]int64, error)
}

// api asks the API server by plain paths: scale is the same of every kind, and the metrics
// come from servers that need not be there.
type api struct{ deps loop.Deps }

func (a *api) rest() rest.Interface { return a.deps.Client.CoreV1().RESTClient() }

// get reads JSON from a path.
func (a *api) get(ctx context.Context, path string, query map[string]string, into any) error {
	r := a.rest().Get().AbsPath(path).SetHeader("Accept", "application/json")
	for k, v := range query {
		if v != "" {
			r = r.Param(k, v)
		}
	}
	raw, err := r.Do(ctx).Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// resourceOf finds the plural of a kind, namespaced or not.
func (a *api) resourceOf(apiVersion, kind string) (schema.GroupVersionResource, bool, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return schema.GroupVersionResource{}, false, fmt.Errorf("invalid API version in scale target reference: %w", err)
	}
	list, err := a.deps.Discovery.ServerResourcesForGroupVersion(gv.String())
	if err != nil {
		return schema.GroupVersionResource{}, false, fmt.Errorf("unable to determine resource for scale target reference: %w", err)
	}
	for _, r := range list.APIResources {
		if r.Kind == kind && !strings.Contains(r.Name, "/") {
			return gv.WithResource(r.Name), r.Namespaced, nil
		}
	}
	return schema.GroupVersionResource{}, false, fmt.Errorf("unable to determine resource for scale target reference: no matches for kind %q in version %q", kind, apiVersion)
}

func (a *api) scalePath(namespace string, ref autoscalingv2.CrossVersionObjectReference) (string, error) {
	gvr, namespaced, err := a.resourceOf(ref.APIVersion, ref.Kind)
	if err != nil {
		return "", err
	}
	path := "/apis/" + gvr.Group + "/" + gvr.Version
	if gvr.Group == "" {
		path = "/api/" + gvr.Version
	}
	if namespaced {
		path += "/namespaces/" + namespace
	}
	return path + "/" + gvr.Resource + "/" + ref.Name + "/scale", nil
}

func (a *api) Scale(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference) (*autoscalingv1.Scale, error) {
	path, err := a.scalePath(namespace, ref)
	if err != nil {
		return nil, err
	}
	scale := &autoscalingv1.Scale{}
	return scale, a.get(ctx, path, nil, scale)
}

func (a *api) SetScale(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference, scale *autoscalingv1.Scale) error {
	path, err := a.scalePath(namespace, ref)
	if err != nil {
		return err
	}
	scale.TypeMeta = metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"}
	body, err := json.Marshal(scale)
	if err != nil {
		return err
	}
	return a.rest().Put().AbsPath(path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}

func (a *api) Usage(ctx context.Context, namespace string, pods labels.Selector, name corev1.ResourceName, container string) (map[string]sample, error) {
	list := &metricsv1beta1.PodMetricsList{}
	err := a.get(ctx, "/apis/metrics.k8s.io/v1beta1/namespaces/"+namespace+"/pods", map[string]string{"labelSelector": pods.String()}, list)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := map[string]sample{}
	for i := range list.Items {
		m := &list.Items[i]
		s, whole := sample{at: m.Timestamp.Time, window: m.Window.Duration}, container == ""
		for _, c := range m.Containers {
			if container != "" && container != c.Name {
				continue
			}
			q, ok := c.Usage[name]
			if whole = ok; !ok {
				break // half a figure is none
			}
			s.value += q.MilliValue()
		}
		if whole {
			out[m.Name] = s
		}
	}
	return out, nil
}

// value is one figure of the custom metrics API; v1beta1 and v1beta2 agree on these fields.
type value struct {
	DescribedObject corev1.ObjectReference `json:"describedObject"`
	Timestamp       metav1.Time            `json:"timestamp"`
	WindowSeconds   *int64                 `json:"windowSeconds"`
	Window          *int64                 `json:"window"`
	Value           resource.Quantity      `json:"value"`
}

func (a *api) custom(ctx context.Context, path string, query map[string]string) ([]value, error) {
	var list struct {
		Items []value `json:"items"`
	}
	err := a.get(ctx, "/apis/custom.metrics.k8s.io/v1beta2"+path, query, &list)
	if apierrors.IsNotFound(err) {
		err = a.get(ctx, "/apis/custom.metrics.k8s.io/v1beta1"+path, query, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	return list.Items, nil
}

func selectorText(s *metav1.LabelSelector) (string, error) {
	if s == nil {
		return "", nil
	}
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	return out.String(), nil
}

func (a *api) PodMetric(ctx context.Context, namespace string, pods labels.Selector, m autoscalingv2.MetricIdentifier) (map[string]sample, error) {
	series, err := selectorText(m.Selector)
	if err != nil {
		return nil, err
	}
	list, err := a.custom(ctx, "/namespaces/"+namespace+"/pods/*/"+m.Name, map[string]string{"labelSelector": pods.String(), "metricLabelSelector": series})
	if err != nil {
		return nil, err
	}
	out := map[string]sample{}
	for _, v := range list {
		window := time.Minute
		if v.WindowSeconds != nil {
			window = time.Duration(*v.WindowSeconds) * time.Second
		} else if v.Window != nil {
			window = time.Duration(*v.Window) * time.Second
		}
		out[v.DescribedObject.Name] = sample{v.Value.MilliValue(), v.Timestamp.Time, window}
	}
	return out, nil
}

func (a *api) ObjectMetric(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference, m autoscalingv2.MetricIdentifier) (int64, error) {
	series, err := selectorText(m.Selector)
	if err != nil {
		return 0, err
	}
	path := "/namespaces/" + ref.Name + "/metrics/" + m.Name
	if ref.Kind != "Namespace" {
		gvr, namespaced, err := a.resourceOf(ref.APIVersion, ref.Kind)
		if err != nil {
			return 0, err
		}
		if path = "/" + gvr.GroupResource().String() + "/" + ref.Name + "/" + m.Name; namespaced {
			path = "/namespaces/" + namespace + path
		}
	}
	list, err := a.custom(ctx, path, map[string]string{"metricLabelSelector": series})
	if err != nil {
		return 0, err
	}
	return list[0].Value.MilliValue(), nil
}

func (a *api) External(ctx context.Context, namespace string, m autoscalingv2.MetricIdentifier) ([]int64, error) {
	series, err := selectorText(m.Selector)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Value resource.Quantity `json:"value"`
		} `json:"items"`
	}
	err = a.get(ctx, "/apis/external.metrics.k8s.io/v1beta1/namespaces/"+namespace+"/"+m.Name, map[string]string{"labelSelector": series}, &list)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from external metrics API")
	}
	var out []int64
	for _, i := range list.Items {
		out = append(out, i.Value.MilliValue())
	}
	return out, nil
}
