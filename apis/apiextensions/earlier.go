package apiextensions

import (
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// beta is the version that Kubernetes stores definitions in, to this day, as JSON. Upstream
// reads what is stored in v1 too.
var beta = api.Earlier[*Definition]{
	Version: "v1beta1",
	New:     func() api.Object { return &apiextensionsv1beta1.CustomResourceDefinition{} },
	To: func(o api.Object) (*Definition, error) {
		return fromBeta(o.(*apiextensionsv1beta1.CustomResourceDefinition))
	},
}

// fromBeta gives each version what v1beta1 may say once for all of them.
func fromBeta(old *apiextensionsv1beta1.CustomResourceDefinition) (*Definition, error) {
	from := &old.Spec
	if len(from.Versions) == 0 {
		from.Versions = []apiextensionsv1beta1.CustomResourceDefinitionVersion{{Name: from.Version, Served: true, Storage: true}}
	}
	for i := range from.Versions {
		v := &from.Versions[i]
		if v.Schema == nil {
			v.Schema = from.Validation
		}
		if v.Subresources == nil {
			v.Subresources = from.Subresources
		}
		if v.AdditionalPrinterColumns == nil {
			v.AdditionalPrinterColumns = from.AdditionalPrinterColumns
		}
		if v.SelectableFields == nil {
			v.SelectableFields = from.SelectableFields
		}
	}
	conversion := from.Conversion
	from.Version, from.Validation, from.Subresources, from.AdditionalPrinterColumns = "", nil, nil, nil
	from.SelectableFields, from.Conversion = nil, nil
	old.TypeMeta = metav1.TypeMeta{}
	text, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("read a definition of v1beta1: %w", err)
	}
	// What is left has the same names in both versions, but for the case of JSONPath.
	d := &Definition{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read a definition of v1beta1: %w", err)
	}
	d.Spec.PreserveUnknownFields = from.PreserveUnknownFields == nil || *from.PreserveUnknownFields
	d.Spec.Conversion = fromBetaConversion(conversion)
	return d, nil
}

func fromBetaConversion(from *apiextensionsv1beta1.CustomResourceConversion) *apiextensionsv1.CustomResourceConversion {
	if from == nil {
		return nil
	}
	to := &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.ConversionStrategyType(from.Strategy)}
	if from.WebhookClientConfig == nil && len(from.ConversionReviewVersions) == 0 {
		return to
	}
	to.Webhook = &apiextensionsv1.WebhookConversion{ConversionReviewVersions: from.ConversionReviewVersions}
	if c := from.WebhookClientConfig; c != nil {
		to.Webhook.ClientConfig = &apiextensionsv1.WebhookClientConfig{URL: c.URL, CABundle: c.CABundle}
		if s := c.Service; s != nil {
			to.Webhook.ClientConfig.Service = &apiextensionsv1.ServiceReference{Namespace: s.Namespace, Name: s.Name, Path: s.Path, Port: s.Port}
		}
	}
	return to
}
