package nodeproxy

import (
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var logOptions = corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind()

// logLocation checks the options of kubectl logs and hands them on.
func (p *Proxy) logLocation(req Request, q url.Values) (target, error) {
	params, errs, err := logParams(q)
	if err != nil {
		return target{}, apierrors.NewBadRequest(err.Error())
	}
	if len(errs) > 0 {
		return target{}, apierrors.NewInvalid(logOptions, req.Name, errs)
	}
	pod, err := p.pod(req)
	if err != nil {
		return target{}, err
	}
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return target{}, err
	}
	if pod.Spec.NodeName == "" {
		return target{}, errNothing
	}
	u, err := p.podKubelet(pod)
	if err != nil {
		return target{}, err
	}
	u.Path = "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + name
	u.RawQuery = params.Encode()
	return target{url: u, node: pod.Spec.NodeName, stream: true, texts: true}, nil
}

// logParams makes the kubelet's options of the API's; what cannot be read is err, what may not be is in errs.
func logParams(q url.Values) (params url.Values, errs field.ErrorList, err error) {
	params = url.Values{}
	for _, name := range []string{"follow", "previous", "timestamps"} {
		if flag(q, name) {
			params.Set(name, "true")
		}
	}
	for _, o := range []struct {
		name  string
		least int64
		text  string
	}{{"tailLines", 0, "must be greater than or equal to 0"}, {"limitBytes", 1, "must be greater than 0"}, {"sinceSeconds", 1, "must be greater than 0"}} {
		value := q.Get(o.name)
		if value == "" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, nil, err
		}
		if n < o.least {
			errs = append(errs, field.Invalid(field.NewPath(o.name), n, o.text))
		}
		params.Set(o.name, value)
	}
	if since := q.Get("sinceTime"); since != "" {
		if _, err := time.Parse(time.RFC3339, since); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("sinceTime"), since, "must be a time as in RFC 3339"))
		}
		if q.Get("sinceSeconds") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		params.Set("sinceTime", since)
	}
	switch stream := q.Get("stream"); stream {
	case "":
	case corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr:
		if stream != corev1.LogStreamAll && q.Get("tailLines") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
		params.Set("stream", stream)
	default:
		errs = append(errs, field.NotSupported(field.NewPath("stream"), stream,
			[]string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
	}
	return params, errs, nil
}
