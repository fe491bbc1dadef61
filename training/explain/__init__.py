"""What a network's call rests on, by five methods beside the map that the device shows, and how far they agree."""
