package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, 0, "make stack-test"},
		{[]string{"-speed", "2"}, 2, "not defined: -speed"},
		{[]string{"now"}, 2, `"now" is not a flag`},
		{[]string{"-cache", ""}, 2, "-cache"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, c.code, run(t.Context(), c.args, &out, &errs), c.args)
		require.Contains(t, errs.String(), c.want)
		require.Empty(t, out.String())
	}
}

func TestOutsideOfTheRepository(t *testing.T) {
	t.Chdir(t.TempDir())
	var out, errs bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-cache", t.TempDir()}, &out, &errs))
	require.Contains(t, errs.String(), "there is no docker-compose.yml")
}
