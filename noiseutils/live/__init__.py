"""What the live views show, without the views: trainings in a thread, looks into them, pictures, attacks."""
