/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/location.h"

#include <math.h>

/* To the nearest. */
static int32_t microdegrees(double degrees)
{
	return (int32_t)(degrees * 1e6 + (degrees < 0 ? -0.5 : 0.5));
}

const struct message_location *location_of(const struct settings *settings,
					   struct message_location *ret)
{
	double latitude = settings->location.latitude, longitude = settings->location.longitude;

	*ret = (struct message_location){
		.has_position = !isnan(latitude) && !isnan(longitude),
		.accuracy_m = (uint32_t)settings->location.accuracy_m,
		.floor = settings->location.floor,
		.zone = settings->location.zone,
		.name = settings->location.name,
	};
	if (ret->has_position) {
		ret->latitude_udeg = microdegrees(latitude);
		ret->longitude_udeg = microdegrees(longitude);
	}
	return ret->has_position || ret->accuracy_m > 0 || *ret->floor || *ret->zone || *ret->name
		       ? ret
		       : NULL;
}
