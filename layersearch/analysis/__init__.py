"""Why a layer matters."""
