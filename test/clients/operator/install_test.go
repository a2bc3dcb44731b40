package operator

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func boatKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: "v2", Kind: "Boat"}
}

// definitions are what an operator brings along; envtest adds the conversion webhook.
func definitions() []*extensionsv1.CustomResourceDefinition {
	integer := extensionsv1.JSONSchemaProps{Type: "integer"}
	text := extensionsv1.JSONSchemaProps{Type: "string"}
	open := true
	version := func(name string, stored bool, spec map[string]extensionsv1.JSONSchemaProps) extensionsv1.CustomResourceDefinitionVersion {
		return extensionsv1.CustomResourceDefinitionVersion{Name: name, Served: true, Storage: stored,
			Subresources: &extensionsv1.CustomResourceSubresources{Status: &extensionsv1.CustomResourceSubresourceStatus{}},
			Schema: &extensionsv1.CustomResourceValidation{OpenAPIV3Schema: &extensionsv1.JSONSchemaProps{Type: "object",
				Properties: map[string]extensionsv1.JSONSchemaProps{"spec": {Type: "object", Properties: spec},
					"status": {Type: "object", XPreserveUnknownFields: &open}}}}}
	}
	return []*extensionsv1.CustomResourceDefinition{{
		ObjectMeta: metav1.ObjectMeta{Name: "boats." + group},
		Spec: extensionsv1.CustomResourceDefinitionSpec{Group: group, Scope: extensionsv1.NamespaceScoped,
			Names: extensionsv1.CustomResourceDefinitionNames{Plural: "boats", Kind: "Boat"},
			Versions: []extensionsv1.CustomResourceDefinitionVersion{
				version("v1", false, map[string]extensionsv1.JSONSchemaProps{"crew": integer}),
				version("v2", true, map[string]extensionsv1.JSONSchemaProps{"sailors": integer, "orders": text}),
			}}}}
}

// webhooks are the admission webhooks; envtest makes their certificates and says where they listen.
func webhooks() envtest.WebhookInstallOptions {
	none := admissionv1.SideEffectClassNone
	call := func(path string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Name: "harbour", Namespace: "default", Path: &path}}
	}
	rules := func(verbs ...admissionv1.OperationType) []admissionv1.RuleWithOperations {
		return []admissionv1.RuleWithOperations{{Operations: verbs, Rule: admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v2"}, Resources: []string{"boats"}}}}
	}
	path := "-fleet-clients-example-com-v2-boat"
	return envtest.WebhookInstallOptions{
		MutatingWebhooks: []*admissionv1.MutatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: group},
			Webhooks: []admissionv1.MutatingWebhook{{Name: "default." + group, ClientConfig: call("/mutate" + path), SideEffects: &none,
				AdmissionReviewVersions: []string{"v1"}, Rules: rules(admissionv1.Create, admissionv1.Update)}}}},
		ValidatingWebhooks: []*admissionv1.ValidatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: group},
			Webhooks: []admissionv1.ValidatingWebhook{{Name: "validate." + group, ClientConfig: call("/validate" + path), SideEffects: &none,
				AdmissionReviewVersions: []string{"v1"}, Rules: rules(admissionv1.Create, admissionv1.Update, admissionv1.Delete)}}}},
	}
}
