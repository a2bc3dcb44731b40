package apiregistration_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/apiregistration"
)

func remote(edit func(*apiregistrationv1.APIService)) *apiregistrationv1.APIService {
	s := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1beta1.metrics.k8s.io"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "metrics.k8s.io", Version: "v1beta1", GroupPriorityMinimum: 100, VersionPriority: 100,
			Service: &apiregistrationv1.ServiceReference{Namespace: "kube-system", Name: "metrics-server"},
		},
	}
	if edit != nil {
		edit(s)
	}
	apiregistration.APIServices.Default(s)
	return s
}

func TestValidation(t *testing.T) {
	port := int32(70000)
	for name, c := range map[string]struct {
		edit func(*apiregistrationv1.APIService)
		want string // part of the error, "" for none
	}{
		"right":    {nil, ""},
		"name":     {func(s *apiregistrationv1.APIService) { s.Name = "v1.metrics.k8s.io" }, "must be `spec.version+\".\"+spec.group`: \"v1beta1.metrics.k8s.io\""},
		"no group": {func(s *apiregistrationv1.APIService) { s.Spec.Group, s.Name = "", "v1beta1." }, "only v1 may have an empty group"},
		"priority": {func(s *apiregistrationv1.APIService) { s.Spec.GroupPriorityMinimum = 20001 }, "must be positive and less than 20000"},
		"version":  {func(s *apiregistrationv1.APIService) { s.Spec.VersionPriority = 0 }, "must be positive and less than 1000"},
		"port":     {func(s *apiregistrationv1.APIService) { s.Spec.Service.Port = &port }, "port is not valid: must be between 1 and 65535, inclusive"},
		"both": {func(s *apiregistrationv1.APIService) {
			s.Spec.InsecureSkipTLSVerify, s.Spec.CABundle = true, []byte("x")
		}, "may not be true if caBundle is present"},
		"local, CA":   {func(s *apiregistrationv1.APIService) { s.Spec.Service, s.Spec.CABundle = nil, []byte("x") }, `Invalid value: "1 bytes": local APIServices may not have a caBundle`},
		"local, skip": {func(s *apiregistrationv1.APIService) { s.Spec.Service, s.Spec.InsecureSkipTLSVerify = nil, true }, "local APIServices may not have insecureSkipTLSVerify"},
		"namespace":   {func(s *apiregistrationv1.APIService) { s.Spec.Service.Namespace = "" }, "spec.service.namespace: Required value"},
	} {
		errs := apiregistration.APIServices.Validate(remote(c.edit))
		if c.want == "" && len(errs) > 0 || c.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, errs, c.want)
		}
	}
}

func TestDefaultAndColumns(t *testing.T) {
	s := remote(nil)
	if s.Spec.Service.Port == nil || *s.Spec.Service.Port != 443 {
		t.Error("the port is not 443")
	}
	cell := func(i int) any { return apiregistration.APIServices.Columns[i].Value(s) }
	if cell(0) != "kube-system/metrics-server" || cell(1) != "Unknown" {
		t.Errorf("cells %v, %v", cell(0), cell(1))
	}
	apiregistration.SetCondition(s, apiregistrationv1.APIServiceCondition{Type: apiregistrationv1.Available, Status: "False", Reason: "MissingEndpoints"})
	if cell(1) != "False (MissingEndpoints)" {
		t.Errorf("cell %v", cell(1))
	}
	apiregistration.SetCondition(s, apiregistration.Local())
	if s.Spec.Service = nil; cell(0) != "Local" || cell(1) != "True" || len(s.Status.Conditions) != 1 {
		t.Errorf("cells %v, %v", cell(0), cell(1))
	}
}
