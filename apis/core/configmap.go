package core

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// maxDataSize bounds the values of a config map or secret together, in bytes.
const maxDataSize = 1024 * 1024

// ConfigMaps is the kind ConfigMap.
var ConfigMaps = api.Define(api.Resource[*corev1.ConfigMap]{
	Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Short: []string{"cm"}, Namespaced: true,
	UnconditionalUpdate: true,
	Validate:            validateConfigMap,
	ValidateUpdate:      validateConfigMapUpdate,
	Columns: []api.Column[*corev1.ConfigMap]{
		count("Data", corev1.ConfigMap{}.SwaggerDoc()["data"], func(c *corev1.ConfigMap) int { return len(c.Data) + len(c.BinaryData) }),
		Age[*corev1.ConfigMap](),
	},
})

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for key, value := range c.Data {
		errs = append(errs, dataKey(key, field.NewPath("data"))...)
		if _, twice := c.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range c.BinaryData {
		errs = append(errs, dataKey(key, field.NewPath("binaryData"))...)
		size += len(value)
	}
	if size > maxDataSize {
		// The value is left out on purpose: it is too long for any message.
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxDataSize))
	}
	return errs
}

func dataKey(key string, path *field.Path) field.ErrorList {
	return invalid(path.Key(key), key, validation.IsConfigMapKey(key))
}

func validateConfigMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	if old.Immutable == nil || !*old.Immutable {
		return nil
	}
	errs := stillImmutable(c.Immutable)
	if !apiequality.Semantic.DeepEqual(c.Data, old.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), immutableWhenSet))
	}
	if !apiequality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
		errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableWhenSet))
	}
	return errs
}

const immutableWhenSet = "field is immutable when `immutable` is set"

func stillImmutable(now *bool) field.ErrorList {
	if now == nil || !*now {
		return field.ErrorList{field.Forbidden(field.NewPath("immutable"), immutableWhenSet)}
	}
	return nil
}
