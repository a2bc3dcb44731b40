package seal

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	aesSizes       = []int{16, 24, 32}
	secretboxSizes = []int{32}
)

// validate checks a configuration in the words of Kubernetes.
func validate(c *configuration) field.ErrorList {
	root := field.NewPath("resources")
	if len(c.Resources) == 0 {
		return field.ErrorList{field.Required(root, fmt.Sprintf("at least one %s is required", root))}
	}
	var errs field.ErrorList
	services := map[string]bool{}
	for i := range c.Resources {
		entry := &c.Resources[i]
		at := root.Index(i)
		errs = append(errs, validateResources(entry.Resources, at.Child("resources"))...)
		providers := at.Child("providers")
		if len(entry.Providers) == 0 {
			errs = append(errs, field.Required(providers, fmt.Sprintf("at least one %s is required", providers)))
		}
		for j := range entry.Providers {
			errs = append(errs, validateProvider(&entry.Providers[j], providers.Index(j), services)...)
		}
	}
	return errs
}

func validateResources(names []string, at *field.Path) field.ErrorList {
	if len(names) == 0 {
		return field.ErrorList{field.Required(at, fmt.Sprintf("at least one %s is required", at))}
	}
	var errs field.ErrorList
	duplicate, overlap := overlaps(names)
	if duplicate {
		errs = append(errs, field.Invalid(at, names, "the same resource cannot be specified multiple times"))
	}
	if overlap {
		errs = append(errs, field.Invalid(at, names, "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"))
	}
	for i, name := range names {
		if problem := resourceProblem(name); problem != "" {
			errs = append(errs, field.Invalid(at.Index(i), name, problem))
		}
	}
	return errs
}

func validateProvider(p *providerConfig, at *field.Path, services map[string]bool) field.ErrorList {
	n := 0
	for _, given := range []bool{p.AESGCM != nil, p.AESCBC != nil, p.Secretbox != nil, p.Identity != nil, p.KMS != nil} {
		if given {
			n++
		}
	}
	switch {
	case n == 0:
		return field.ErrorList{field.Invalid(at, "", "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity")}
	case n > 1:
		return field.ErrorList{field.Invalid(at, "", "more than one provider specified in a single element, should split into different list elements")}
	case p.AESGCM != nil:
		return validateKeys(p.AESGCM.Keys, at.Child("aesgcm", "keys"), aesSizes)
	case p.AESCBC != nil:
		return validateKeys(p.AESCBC.Keys, at.Child("aescbc", "keys"), aesSizes)
	case p.Secretbox != nil:
		return validateKeys(p.Secretbox.Keys, at.Child("secretbox", "keys"), secretboxSizes)
	case p.KMS != nil:
		return validateKMS(p.KMS, at.Child("kms"), services)
	}
	return nil
}

func validateKeys(keys []keyConfig, at *field.Path, sizes []int) field.ErrorList {
	if len(keys) == 0 {
		return field.ErrorList{field.Required(at, "at least one keys is required")}
	}
	var errs field.ErrorList
	for i, k := range keys {
		at := at.Index(i)
		if k.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "name is a mandatory field for a key"))
		}
		if strings.Contains(k.Name, ":") {
			errs = append(errs, field.Invalid(at.Child("name"), k.Name, "must not contain ':'"))
		}
		if k.Secret == "" {
			errs = append(errs, field.Required(at.Child("secret"), "secret is a mandatory field for a key"))
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			errs = append(errs, field.Invalid(at.Child("secret"), "REDACTED", "secrets must be base64 encoded"))
		} else if !slices.Contains(sizes, len(secret)) {
			errs = append(errs, field.Invalid(at.Child("secret"), "REDACTED",
				fmt.Sprintf("secret is not of the expected length, got %d, expected one of %v", len(secret), sizes)))
		}
	}
	return errs
}

func validateKMS(k *kmsConfig, at *field.Path, services map[string]bool) field.ErrorList {
	var errs field.ErrorList
	if k.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "name is a mandatory field for a provider"))
	}
	if strings.Contains(k.Name, ":") {
		errs = append(errs, field.Invalid(at.Child("name"), k.Name, fmt.Sprintf("invalid KMS provider name %s, must not contain ':'", k.Name)))
	}
	if services[k.Name] {
		errs = append(errs, field.Invalid(at.Child("name"), k.Name, fmt.Sprintf("duplicate KMS provider name %s, names must be unique", k.Name)))
	}
	services[k.Name] = true
	if k.Timeout != nil && k.Timeout.Duration <= 0 {
		errs = append(errs, field.Invalid(at.Child("timeout"), k.Timeout.Duration.String(), "timeout should be a positive value"))
	}
	if k.Endpoint == "" {
		errs = append(errs, field.Invalid(at.Child("endpoint"), "", "endpoint is a mandatory field for a kms"))
	} else if u, err := url.Parse(k.Endpoint); err != nil {
		errs = append(errs, field.Invalid(at.Child("endpoint"), k.Endpoint, fmt.Sprintf("invalid endpoint for kms provider, error: %v", err)))
	} else if u.Scheme != "unix" {
		errs = append(errs, field.Invalid(at.Child("endpoint"), k.Endpoint, fmt.Sprintf("unsupported scheme %q for KMS provider, only unix is supported", u.Scheme)))
	}
	if k.CacheSize != nil {
		errs = append(errs, field.Invalid(at.Child("cachesize"), *k.CacheSize, "cachesize is not supported in v2"))
	}
	if k.APIVersion != "v2" {
		// Version 1 is off by default upstream, too.
		errs = append(errs, field.NotSupported(at.Child("apiVersion"), k.APIVersion, []string{"v2"}))
	}
	return errs
}
