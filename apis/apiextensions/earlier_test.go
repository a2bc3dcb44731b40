package apiextensions

import (
	"encoding/json"
	"testing"

	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
)

const whole = `{"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"CustomResourceDefinition","metadata":{"name":"a.g"},"spec":{
	"group":"g","version":"v1","scope":"Namespaced","names":{"plural":"a","kind":"A"},"preserveUnknownFields":false,
	"validation":{"openAPIV3Schema":{"type":"object"}},"subresources":{"status":{}},
	"additionalPrinterColumns":[{"name":"N","type":"string","JSONPath":".spec.n"}],
	"versions":[{"name":"v1","served":true,"storage":true},{"name":"v2","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"string"}}}],
	"conversion":{"strategy":"Webhook","webhookClientConfig":{"service":{"namespace":"n","name":"s","port":1}},"conversionReviewVersions":["v1"]}},
	"status":{"storedVersions":["v1"],"conditions":[{"type":"Established","status":"True"}]}}`

func TestDefinitionsOfV1beta1(t *testing.T) {
	d := fromText(t, whole)
	first, second := &d.Spec.Versions[0], &d.Spec.Versions[1]
	switch {
	case first.AdditionalPrinterColumns[0].JSONPath != ".spec.n" || second.AdditionalPrinterColumns[0].JSONPath != ".spec.n":
		t.Error("the columns are not those of each version")
	case first.Schema.OpenAPIV3Schema.Type != "object" || second.Schema.OpenAPIV3Schema.Type != "string" || first.Subresources.Status == nil:
		t.Error("the schemas are not those of each version")
	case d.Spec.PreserveUnknownFields || d.Spec.Conversion.Webhook.ConversionReviewVersions[0] != "v1" || *d.Spec.Conversion.Webhook.ClientConfig.Service.Port != 1:
		t.Errorf("%+v", d.Spec)
	case d.Status.StoredVersions[0] != "v1" || len(d.Status.Conditions) != 1 || d.Name != "a.g":
		t.Errorf("%+v", d)
	}
	if d = fromText(t, `{"spec":{"version":"v1"}}`); len(d.Spec.Versions) != 1 || !d.Spec.Versions[0].Storage || !d.Spec.PreserveUnknownFields {
		t.Errorf("%+v", d.Spec)
	}
}

func fromText(t *testing.T, text string) *Definition {
	t.Helper()
	old := &apiextensionsv1beta1.CustomResourceDefinition{}
	if err := json.Unmarshal([]byte(text), old); err != nil {
		t.Fatal(err)
	}
	d, err := fromBeta(old)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func FuzzBeta(f *testing.F) {
	f.Add(whole)
	f.Add(`{"spec":{"versions":[{"additionalPrinterColumns":[{}]}],"conversion":{}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		old := &apiextensionsv1beta1.CustomResourceDefinition{}
		if json.Unmarshal([]byte(text), old) != nil {
			return
		}
		if d, err := fromBeta(old); err == nil {
			setDefaults(d)
			validate(d)
		}
	})
}
